"""A driver of spm-gym in a package of its own, and the server that it talks to."""
