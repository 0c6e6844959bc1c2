"""GigaTok: a one-dimensional image tokenizer under its published names (arXiv 2504.08736)."""
