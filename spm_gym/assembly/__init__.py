"""Builds microscope, environment, agent and run from the settings."""
