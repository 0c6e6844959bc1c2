"""LARP: a video tokenizer with a learned autoregressive prior, under its published names (arXiv
2410.21264)."""
