"""Staged training of VARGPT-v1.1 (arXiv 2504.02949): projectors first, then understanding, then drawing and
preferences in turn at growing resolutions, editing at the end. docs/training.md."""
