"""Training of adapters: controls by a picture, subjects, styles. The base is frozen; what is trained beside
it becomes one small file (`unified.apps.adapters`)."""
