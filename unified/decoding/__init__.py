"""Inference: the session, sampling, guidance, editing. Imports everything of the core but `apps`."""
