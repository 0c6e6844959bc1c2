"""What is a sketch worth? Small models of one start learn mazes in words, in a chart and in sketches, and are
then given other sketches than their own. `python -m unified.train.experiments.sketchpad` runs it."""
