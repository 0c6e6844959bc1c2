"""Inference: the session, sampling, guidance, editing. Imports everything of the core and `tokenizers`."""
