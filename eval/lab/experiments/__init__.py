"""Experiments by the name of their paper. To add one, write a file with an `EXPERIMENT` and give it a line
here; docs/lab/README.md tells how."""

from unified.eval.lab.experiment import Experiment
from unified.eval.lab.experiments import (
    ar_survey,
    asvr,
    cca,
    core2,
    ddo,
    ear,
    flash,
    flexvar,
    hack,
    lantern,
    m3id,
    nar,
    sar,
    scalekv,
    semaim,
    t2i_compbench,
    token_unify,
    var,
    variant,
)

_MODULES = (
    var,
    flexvar,
    scalekv,
    hack,
    variant,
    nar,
    core2,
    cca,
    ar_survey,
    t2i_compbench,
    ddo,
    sar,
    ear,
    m3id,
    lantern,
    asvr,
    token_unify,
    semaim,
    flash,
)

EXPERIMENTS: dict[str, Experiment] = {module.EXPERIMENT.name: module.EXPERIMENT for module in _MODULES}
