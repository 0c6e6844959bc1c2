"""Applications. May import everything; `envs`, `tasks`, `train` and `eval` inside functions only.

`assistant`: the verbs; `answering`, `looking`, `best_of_n`: how a turn is generated; `conversation`,
`terminal`: chat; `rollout`: world model and player; `pictures`: image files; `cli`, `commands`, `demo`: the
command line.
"""
