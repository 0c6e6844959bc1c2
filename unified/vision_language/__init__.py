"""Image-text models of `transformers` in a session: `unified.load(FOLDER)` of one of them comes here. Imports
the core.

Vision tower, projector, decoder layers, image processor and chat template are the library's own; the loop
over the layers, the attention rule, the KV cache, sampling and decoding strategies are those of every other
model. The verbs are in `unified.apps.image_text`.
"""
