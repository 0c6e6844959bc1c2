"""Golden folders of NSARM (`nsarm`): labels that repair given maps, the transformation network, and runs of
super-resolution with the weights of Infinity's folder beside this one. Tolerances are those recommended
there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.checkpoints import infinity_verify
from unified.checkpoints.check import Check, not_compared
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io
from unified.checkpoints.infinity import Infinity
from unified.checkpoints.infinity_bits import BitGrid
from unified.checkpoints.infinity_correction import example
from unified.checkpoints.infinity_forks import AsReleased
from unified.checkpoints.infinity_generation import Habits
from unified.checkpoints.nsarm.network import Transformation, as_map, load
from unified.checkpoints.nsarm.sampling import upscale
from unified.checkpoints.state_dict import read_weights
from unified.checkpoints.transformer_verify import needed
from unified.decoding.drawing import Choice
from unified.decoding.guidance import Constant
from unified.decoding.noise import GeneratorNoise
from unified.decoding.sampling import Sampler
from unified.orders.shapes import Shapes

INPUT = re.compile(r".+\.(flip|pred\d+|raw)|t\.latent|inf\.text")
OF_CASE = ("dim", "sides", "given", "patchify")
OF_RUNS = ("sides", "given", "tau", "seed", "top_k", "top_p")


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds labels and runs of NSARM."""
    return config.get("case") == "nsarm"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    computed: dict[str, Tensor] = {}
    for name, case in _object(config, "labels").items():
        computed |= _labels(name, _having(case, OF_CASE, f"the case {name}"), stored)
    state = infinity_verify.below(read_weights(Path(folder) / "weights.safetensors"), "map_transformer.")
    network = load(_object(config, "network"), state)
    latent = needed(stored, "t.latent")
    with torch.no_grad():
        outputs = network(latent)
    computed |= {f"t.out{number}": value for number, value in enumerate(outputs)}
    runs, beside = _object(config, "inference"), Path(folder).parent / str(config.get("infinity_weights"))
    _having(runs, OF_RUNS, "inference")
    if beside.is_dir():
        computed |= _runs(infinity_verify.load(beside), network, runs, stored)
    reason = "" if beside.is_dir() else f"needs the folder {beside.name} beside this one"
    for check in compare(stored, computed, lambda name: INPUT.fullmatch(name) is not None, _tolerance):
        hindered = reason and re.match(r"inf\.(?!text$)", check.name)
        yield not_compared(check.name, reason) if hindered else check


def _tolerance(name: str) -> Tolerance:
    return Tolerance(2e-4 if name.endswith(".logits") else 1e-4)


def _object(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name)
    if not isinstance(found, dict):
        raise ValueError(f"config.json has no object {name!r}")
    return found


def _having(options: Mapping[str, Any], names: tuple[str, ...], what: str) -> Mapping[str, Any]:
    missing = [name for name in names if name not in options]
    if missing:
        raise ValueError(f"{what} lacks {', '.join(missing)}")
    return options


# Labels -----------------------------------------------------------------------------------------------------


def _labels(name: str, case: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Labels and inputs of a latent whose first maps are given, and its labels without them."""
    grid = BitGrid(case["dim"], 2 if case["patchify"] else 1)
    shapes: Shapes = tuple((side // grid.side,) * 2 for side in case["sides"])  # type: ignore[misc]
    latent = needed(stored, f"{name}.raw").squeeze(2)
    given = [
        as_map(needed(stored, f"{name}.pred{number}"), grid.cells(shape))
        for number, shape in enumerate(shapes[: case["given"]])
    ]
    flips = _flips(grid, shapes, stored[f"{name}.flip"]) if f"{name}.flip" in stored else None
    made = example(grid, latent, shapes, flips, given)
    return {
        f"{name}.labels": made.labels.to(torch.uint8),
        f"{name}.inputs": made.vectors,
        f"{name}.labels_without_prefix": grid.labels(latent, shapes).to(torch.uint8),
    }


def _flips(grid: BitGrid, shapes: Shapes, flat: Tensor) -> Tensor:
    """Flips [B, T, S] bool from those of the first maps, each flattened from (h, w, d)."""
    found, start = [], 0
    for shape in shapes:
        height, width = grid.cells(shape)
        part = flat[:, start : start + height * width * grid.bits]
        start += height * width * grid.bits
        part = F.pad(part, (0, height * width * grid.bits - part.shape[1]))  # later maps have none
        found.append(grid.to_tokens(part.view(-1, height, width, grid.bits).permute(0, 3, 1, 2)))
    return torch.cat(found, dim=1) > 0


# Super-resolution -------------------------------------------------------------------------------------------


def _runs(
    model: Infinity, network: Transformation, options: Mapping[str, Any], stored: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    shapes: Shapes = tuple((side // model.grid.side,) * 2 for side in options["sides"])  # type: ignore[misc]
    with torch.no_grad():
        given = network.maps(needed(stored, "t.latent"))[: options["given"]]
    found: dict[str, Tensor] = {}
    for name, tau in options["tau"].items():
        drawn: list[Tensor] = []

        def keep(choice: Choice, drawn: list[Tensor] = drawn) -> Choice:
            drawn.append(model.head.to_symbols(choice.codes))
            return replace(choice)

        rng = torch.Generator().manual_seed(options["seed"][name])
        habits = Habits(
            sampler=Sampler(temperature=tau, top_k=options["top_k"], top_p=options["top_p"]),
            noise=GeneratorNoise(rng),
            hooks=(keep,),
        )
        scale = options.get("cfg", 1.0)
        guidance = None if scale == 1 else Constant(scale)
        made = upscale(model, [needed(stored, "inf.text")], shapes, given, guidance, habits=habits)
        vectors, feed = torch.cat(made.vectors, dim=1), AsReleased.of(model).feed(shapes)
        found |= {
            f"inf.{name}.logits": torch.cat(made.logits, dim=1),
            f"inf.{name}.sampled_bits": torch.cat(drawn, dim=1).to(torch.uint8),
            f"inf.{name}.word_inputs": feed.inputs(vectors, feed.later),
            f"inf.{name}.final_latent": model.grid.summed(vectors, shapes),
        }
    return found
