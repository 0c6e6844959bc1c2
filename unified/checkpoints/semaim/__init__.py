"""SemAIM: autoregressive pre-training of a vision transformer in an order that the image's own features give
(arXiv 2312.10457)."""
