"""Hita: an image tokenizer with holistic tokens before local ones, under its published names (arXiv
2507.02358)."""
