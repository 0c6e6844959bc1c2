"""TokenUnify: pre-training on volumes by a mixture of random, next and all following tokens (arXiv
2405.16847)."""
