"""Pages in a browser: a run as it goes, and scans to be labelled."""
