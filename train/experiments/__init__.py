"""Experiments by one command each; an arm is a small function of a seed."""
