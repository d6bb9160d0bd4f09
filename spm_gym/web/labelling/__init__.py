"""A page on which people label scans with the keyboard or their thumbs."""
