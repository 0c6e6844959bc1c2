"""Training of latent sketches (`unified.vision_language.sketchpad`): words first, then the vision head, and
the sketch decoder by itself. Zhang et al., "Latent Sketchpad", arXiv 2510.24514."""
