"""Benchmarks. Each measurement is a process of its own, so that peak memory is its own; a comparison is a
ratio of two measurements of the same run."""
