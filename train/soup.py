"""Model soup: the mean weights of models trained on from the same one (Wortsman et al., arXiv 2203.05482).

python -m unified.train.soup --model FOLDER --with FOLDER [FOLDER ...] --out FOLDER
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch
from unified.train.rewrite import parser, rewrite

from unified.model import UnifiedModel
from unified.pretrained import find, load_model
from unified.stream.processor import Processor


@torch.no_grad()
def mean(models: Sequence[UnifiedModel]) -> UnifiedModel:
    """The first model, in place, with the mean of every weight. ValueError where they differ in more than
    weights."""
    first, *others = models
    states = [model.state_dict() for model in models]
    for model, state in zip(others, states[1:], strict=True):
        if {n: v.shape for n, v in state.items()} != {n: v.shape for n, v in states[0].items()}:
            raise ValueError("only models of one shape have a mean")
        if model.vocabulary != first.vocabulary:
            raise ValueError("only models of one vocabulary have a mean")
    for name, value in states[0].items():
        if value.is_floating_point():
            value.copy_(torch.stack([state[name].double() for state in states]).mean(dim=0))
    return first


def main(arguments: list[str] | None = None) -> int:
    options = parser("soup", "The mean of models that were trained on from the same one.")
    options.add_argument("--with", dest="others", nargs="+", required=True, help="folders of the others")
    return rewrite(options, _change, arguments)


def _change(model: UnifiedModel, _: Processor, options: argparse.Namespace) -> tuple[UnifiedModel, str]:
    others = [load_model(find(folder))[0] for folder in options.others]
    return mean([model, *others]), f"the mean of {1 + len(others)} models"


if __name__ == "__main__":
    sys.exit(main())
