"""UniPic: Harmon with a second encoder for understanding, and editing; reference vectors."""
