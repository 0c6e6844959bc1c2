"""Inference: the session, sampling, guidance, minimum-risk decoding, editing. Imports the core and
`tokenizers`."""
