"""ARBooth: Infinity tuned to draw one subject of a few photographs (arXiv 2504.02612)."""
