"""The SPECS Nanonis controller over its TCP programming interface."""
