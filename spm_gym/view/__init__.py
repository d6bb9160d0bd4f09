"""What people and other programs get to see of a run directory."""
