"""What the README shows: unedited output of a model, judged by rules, and figures read from reports.

`tour` runs the model, `film` draws its output as a GIF, `readme` writes blocks of Markdown between markers.
"""
