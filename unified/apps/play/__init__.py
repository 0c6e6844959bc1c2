"""Play by hand: the voxel world and the model's dream of it, side by side on the same keys.

`keys` says what the keys mean and reads scripts of them, `terminal` and `window` read a keyboard and show
frames, `worlds` steps both worlds, `clips` records them, `loop` puts the parts together.
"""
