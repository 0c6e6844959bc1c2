"""Harmon, one masked encoder for understanding and generation: network, sampling and reference vectors."""
