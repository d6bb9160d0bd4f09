"""A Nanonis controller in software, with a simulated microscope behind it."""
