"""NSARM: super-resolution in which the low-resolution image gives the first maps of Infinity (arXiv
2510.00820)."""
