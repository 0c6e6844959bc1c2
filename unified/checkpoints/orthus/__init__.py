"""Orthus, a causal model with a head for each modality: network, generation and reference vectors."""
