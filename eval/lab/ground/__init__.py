"""What all experiments share: scenes and clips of 32 x 32 pixels, tokenizers, base models, measures."""
