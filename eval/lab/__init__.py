"""The laboratory: published techniques as small experiments on one common ground, each run by one command.

`papers.py` lists the papers, `ground/` holds the data, tokenizers, base models and measures that all
experiments share, `experiments/` one short file for each experiment. `unified lab` is the command.
"""
