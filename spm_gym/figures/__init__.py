"""Drawings: maps, scans, episodes, networks, charts."""
