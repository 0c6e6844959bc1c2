"""Continuous speculative decoding (CSpD) of MAR as released: MarkXCloud/CSpD (MIT), arXiv 2411.11925."""
