"""Our models behind the interfaces of `transformers`: Auto classes, a processor that is called, a tokenizer,
`push_to_hub`. Imports the core and `pretrained`.

`import unified` makes the Auto classes know the `model_type` "unified" (`registration.py`) without importing
`transformers` or `torch`. `model.generate` is in `unified.decoding.generate`.
"""
