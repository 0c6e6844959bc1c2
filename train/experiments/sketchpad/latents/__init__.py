"""The arm that draws in latents: sketches are features of the model's own vision encoder, predicted one by
one by a vision head and never decoded for the model itself (`unified.vision_language.sketchpad`)."""
