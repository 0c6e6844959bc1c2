"""Epona, an autoregressive diffusion world model with a trajectory head: network, rollout, reference
vectors."""
