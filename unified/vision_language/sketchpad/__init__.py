"""Latent sketches: an image-text model of `transformers` that draws while it thinks.

A vision head (`unified.heads.vision_head`) predicts features of the model's own vision encoder from its
hidden states; the model's own connector feeds them back. Zhang et al., "Latent Sketchpad", arXiv 2510.24514.
Training is in `unified.train.sketchpad`, the verb in `unified.apps.latent_sketchpad`.
"""
