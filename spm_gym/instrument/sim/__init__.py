"""The simulated microscope."""
