"""Facts of a run, read from its journal; nothing here draws."""
