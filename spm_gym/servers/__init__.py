"""Servers that speak a vendor's protocol over a simulated microscope."""
