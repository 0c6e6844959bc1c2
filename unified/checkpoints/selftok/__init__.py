"""Selftok: an image as a sequence of codes ordered by diffusion time, under its published names (arXiv
2505.07538)."""
