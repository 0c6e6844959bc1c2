"""Experiments by the name of their paper. To add one, write a file with an `EXPERIMENT` and give it a line
here; docs/lab/README.md tells how."""

from unified.eval.lab.experiment import Experiment
from unified.eval.lab.experiments import cca, core2, nar, scalekv, variant

_MODULES = (scalekv, nar, variant, cca, core2)

EXPERIMENTS: dict[str, Experiment] = {module.EXPERIMENT.name: module.EXPERIMENT for module in _MODULES}
