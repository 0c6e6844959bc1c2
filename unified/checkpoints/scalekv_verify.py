"""ScaleKV's released rule against a golden folder (`python -m unified.checkpoints verify`): kept entries,
observers and budgets of a recorded run, and an image by Infinity with compressed layers.

The image is scored as in the release, with queries that are not those that attended: remade from a layer's
input by the bare qkv matrix (`raw_queries` of Infinity's config).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unified.cache.held import CachePolicy, Held
from unified.cache.policy import DropWrite
from unified.cache.scalekv import RELEASE, Budget, ScaleKV, Selector, observers
from unified.checkpoints.check import Check, not_compared
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io
from unified.checkpoints.infinity_generation import Habits, generate
from unified.checkpoints.infinity_schedules import schedule
from unified.checkpoints.infinity_verify import load, read_texts
from unified.decoding.guidance import Constant
from unified.orders.shapes import Shape

POOLING = {"maxpool": "max", "avgpool": "average"}
PROBE_START = 100  # cached entries before the map that a window is probed for
NEEDED = ("window_size", "base_capacity", "kernel_size", "pooling", "scale_tokens", "budgets")


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds runs of ScaleKV."""
    return "budgets" in config and "window_size" in config


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder, needed=NEEDED), read_io(folder)
    selector = released_selector(config)
    computed = _windows(stored, selector)
    for layer in _layers(stored):
        computed |= _unit(stored, config, selector, layer)
    obstacle = _obstacle(folder, config)
    if not obstacle and any(name.startswith("e2e.") for name in stored):
        computed |= _image(Path(folder).parent / config["e2e_uses_weights_of"], config["e2e_budgets"])
    for check in compare(stored, computed, _is_input, _tolerance):
        hindered = obstacle and check.name.startswith("e2e.")
        yield not_compared(check.name, obstacle) if hindered else check


def released_selector(config: Mapping[str, Any]) -> Selector:
    """The release's rule with a folder's sizes. ValueError for a pooling that it does not know."""
    if config["pooling"] not in POOLING:
        raise ValueError(f"pooling must be one of {', '.join(POOLING)}, got {config['pooling']!r}")
    return Selector(
        window=config["window_size"],
        kernel=config["kernel_size"],
        scores="logits",
        pooling=POOLING[config["pooling"]],
        repeats=True,
    )


def budgets_of(entries: Mapping[str, Mapping[str, Any]]) -> dict[int, Budget]:
    """`budgets` or `e2e_budgets` of a config by step: "9" is the ninth step."""
    return {
        int(scale) - 1: Budget(
            drafter=entry["max"],
            refiner=entry["min"],
            drafters=frozenset(layer for layer, flag in enumerate(entry["drafter"]) if flag),
        )
        for scale, entry in entries.items()
    }


def _is_input(name: str) -> bool:
    return re.fullmatch(r"unit\.layer\d+\.scale\d+\.[kqv]", name) is not None


def _tolerance(name: str) -> Tolerance:
    """Those that the folder's README recommends. Sums of kept keys are of up to a million numbers, and codes
    are stored in half precision."""
    if name.startswith("e2e.logits"):
        return Tolerance(2e-4)
    if name in ("e2e.kept_key_sum", "e2e.summed_codes"):
        return Tolerance(1e-2, 1e-3)
    return Tolerance(1e-5, 1e-5)


def _layers(stored: Mapping[str, Tensor]) -> list[int]:
    found = (re.match(r"unit\.layer(\d+)\.", name) for name in stored)
    return sorted({int(match[1]) for match in found if match})


def _square(tokens: int) -> Shape | None:
    """The release takes a map of a square number of tokens as square, any other as no grid."""
    side = isqrt(tokens)
    return (side, side) if side * side == tokens else None


def _windows(stored: Mapping[str, Tensor], selector: Selector) -> dict[str, Tensor]:
    """`window.scale_size{n}`: the observers of a map of n tokens."""
    found = {}
    for name in stored:
        match = re.fullmatch(r"window\.scale_size(\d+)", name)
        if match:
            tokens = int(match[1])
            found[name] = observers(PROBE_START + tokens, tokens, _square(tokens), selector.window)
    return found


def _unit(
    stored: Mapping[str, Tensor], config: Mapping[str, Any], selector: Selector, layer: int
) -> dict[str, Tensor]:
    """One layer's cache over all steps, from recorded keys, queries and values. The last channel of a value
    is the number of its token."""
    tokens, budgets = config["scale_tokens"], budgets_of(config["budgets"])
    found: dict[str, Tensor] = {}
    key = value = torch.zeros(0)
    for step in range(len(tokens)):
        name = f"unit.layer{layer}.scale{step}"
        new_key, query, new_value = (_needed(stored, f"{name}.{part}") for part in "kqv")
        key = torch.cat([key, new_key], dim=2) if step else new_key
        value = torch.cat([value, new_value], dim=2) if step else new_value
        entry = budgets.get(min(step + 1, len(tokens) - 1))
        budget = entry.of(layer) if entry and sum(tokens[: step + 1]) > config["base_capacity"] else None
        if budget is not None and key.shape[2] > budget:
            kept = selector.kept(query, key, _square(tokens[step]), budget)
            key, value = (x.gather(2, kept[..., None].expand(-1, -1, -1, x.shape[3])) for x in (key, value))
        found[f"{name}.kept_token_index"] = value[..., -1].round().int()
        found[f"{name}.kept_len"] = torch.tensor(key.shape[2])
        found[f"{name}.kept_k_checksum"] = key.sum(dim=(2, 3))
    return found | {f"unit.layer{layer}.final_k": key, f"unit.layer{layer}.final_v": value}


def _needed(stored: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in stored:
        raise ValueError(f"io.safetensors has no {name!r} to compute the other tensors from")
    return stored[name]


# An image by Infinity --------------------------------------------------------------------------------------

CFG = 3.0
TOKENS, MAPS = 64, 3  # logits are stored of so many first tokens of so many last maps


def _obstacle(folder: Path, config: Mapping[str, Any]) -> str:
    """Why the image cannot be written; empty if it can."""
    if "e2e_budgets" not in config or "e2e_uses_weights_of" not in config:
        return "config.json does not say how the image was made"
    beside = Path(folder).parent / config["e2e_uses_weights_of"]
    return "" if beside.is_dir() else f"needs the folder {config['e2e_uses_weights_of']} beside this one"


class Recorded:
    """A policy that does what another does, and notes what each layer holds after each step: `lengths` and
    `sums` of all its keys, by layer and step."""

    keeps_writes = False
    by_step = True

    def __init__(self, policy: CachePolicy) -> None:
        self.policy = policy
        self.lengths: dict[tuple[int, int], int] = {}
        self.sums: dict[tuple[int, int], Tensor] = {}

    def stays(self, held: Held) -> np.ndarray | None:
        stays = self.policy.stays(held)
        if held.keys is not None:
            every = np.ones(held.keys.shape[:3], dtype=bool) if stays is None else stays
            marks = torch.from_numpy(every).to(held.keys.device)
            self.lengths[held.layer, held.step] = int(every[0, :, 0].sum())
            self.sums[held.layer, held.step] = (held.keys * marks[..., None]).sum()
        return stays

    def table(self, values: Mapping[tuple[int, int], Any]) -> Tensor:
        """[layers, steps]."""
        layers, steps = (max(numbers) + 1 for numbers in zip(*values, strict=True))
        return torch.tensor([[values[layer, step] for step in range(steps)] for layer in range(layers)])


def _image(folder: Path, budgets: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """`e2e.*`: the first text of Infinity's `folder`, written greedily with a full and a compressed cache."""
    model, shapes = load(folder, raw_queries=True), schedule(1.0, "1M")
    texts, _ = read_texts(folder)
    recorded = Recorded(ScaleKV(budgets=budgets_of(budgets), selector=RELEASE))
    found: dict[str, Tensor] = {}
    policies: dict[str, CachePolicy] = {"full": DropWrite(), "scalekv": recorded}
    for name, policy in policies.items():
        made = generate(model, texts[:1], shapes, Constant(CFG), habits=Habits(policy=policy))
        logits = [logits[0, :TOKENS] for logits in made.logits[-MAPS:]]
        found[f"e2e.logits_head_last{MAPS}_{name}"] = torch.stack(logits)
        symbols = (model.head.to_symbols(codes).float() for codes in made.codes)
        cells = [model.grid.to_map(*pair).flatten(2) for pair in zip(symbols, shapes, strict=True)]
        found[f"e2e.bits_{name}"] = torch.cat(cells, dim=2).transpose(1, 2).to(torch.uint8)
        found["e2e.summed_codes"] = model.grid.summed(torch.cat(made.vectors, dim=1), shapes)
    found["e2e.bits_full_cache"] = found.pop("e2e.bits_full")
    found["e2e.kept_len"] = recorded.table(recorded.lengths)
    found["e2e.kept_key_sum"] = recorded.table(recorded.sums)
    return found
