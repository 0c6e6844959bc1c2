"""Phrasings of the out-of-distribution suite, as plain data. None is a template of any training task."""
