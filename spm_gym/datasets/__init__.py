"""Labelled folders, simulated images, exports."""
