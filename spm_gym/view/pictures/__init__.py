"""Pictures for talks and lab books: scans, maps, runs, episodes, networks."""
