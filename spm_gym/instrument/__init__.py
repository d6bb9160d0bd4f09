"""Two microscopes behind one interface."""
