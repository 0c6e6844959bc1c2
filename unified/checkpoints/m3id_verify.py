"""M3ID and its baselines as the public re-implementation's sampling loop computes them, against a golden
folder (`python -m unified.checkpoints verify`): mixtures, warped scores, and the tokens drawn from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io
from unified.checkpoints.transformer_verify import needed
from unified.decoding.grounding import MutualInformation
from unified.decoding.guidance import PLAUSIBLE

INPUTS = ("with_image", "without_image", "prompt")
DECAY, VCD_WEIGHT = 0.02, 1.0  # written into the loop
UNCAPPED = 1e300


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds cases of M3ID."""
    return config.get("case") == "m3id"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    cases = config.get("cases")
    if not isinstance(cases, dict):
        raise ValueError(f"{folder}: config.json lacks cases")
    computed: dict[str, Tensor] = {}
    if "weight" in stored:
        numbers = torch.arange(1, len(stored["weight"]) + 1)
        computed["weight"] = MutualInformation(decay=DECAY, cap=UNCAPPED).weights(numbers)
    for name, case in cases.items():
        missing = [key for key in ("rule", "steps", "torch_manual_seed") if key not in case]
        if missing:
            raise ValueError(f"the case {name} of config.json lacks {missing[0]}")
        given = (needed(stored, f"{name}.{key}") for key in INPUTS)
        computed |= {f"{name}.{key}": value for key, value in _case(case, *given).items()}
    yield from compare(stored, computed, lambda name: name.rpartition(".")[2] in INPUTS, _tolerance)


def _tolerance(name: str) -> Tolerance:
    return Tolerance(1e-12, 1e-12) if name == "weight" else Tolerance(1e-5, 1e-5)


def _case(case: Mapping[str, Any], seen: Tensor, blind: Tensor, prompt: Tensor) -> dict[str, Tensor]:
    """The loop over given logits [T, B, V]: mixtures and scores [T', B, V], tokens [B, T']."""
    rng = torch.Generator().manual_seed(case["torch_manual_seed"])
    said, ended = prompt, torch.zeros(len(prompt), dtype=torch.bool)
    mixtures, scores = [], []
    for step in range(min(case["steps"], len(seen))):
        mixtures.append(_mixed(case, seen[step], blind[step], step + 1))
        scores.append(_warped(case, _penalised(mixtures[-1], said, case.get("repetition_penalty", 1.0))))
        token = torch.multinomial(scores[-1].softmax(dim=-1), 1, generator=rng)[:, 0]
        token = token.masked_fill(ended, 0)
        said = torch.cat([said, token[:, None]], dim=1)
        ended = ended | (token == case.get("eos", -1))
        if ended.all():
            break
    tokens = said[:, prompt.shape[1] :]
    return {"mixed": torch.stack(mixtures), "scores": torch.stack(scores), "tokens": tokens}


def _mixed(case: Mapping[str, Any], seen: Tensor, blind: Tensor, number: int) -> Tensor:
    """[B, V]. ValueError for an unknown rule."""
    rule, plausible = case["rule"], case.get("cd_beta", PLAUSIBLE)
    if rule == "none":
        return seen
    if rule == "m3id":
        m3id = MutualInformation(decay=DECAY, cap=UNCAPPED, plausible=plausible)
        return m3id.mixed(seen, blind, torch.tensor(number))
    if rule != "vcd":
        raise ValueError(f"unknown rule {rule!r}: known are m3id, vcd and none")
    found = (1 + VCD_WEIGHT) * seen - VCD_WEIGHT * blind
    floor = seen.amax(dim=-1, keepdim=True) + torch.tensor(plausible).log()
    return found.masked_fill(seen < floor, float("-inf"))


def _penalised(scores: Tensor, said: Tensor, penalty: float) -> Tensor:
    """Scores of ids that were said: positive ones divided by the penalty, negative ones multiplied."""
    if penalty == 1:
        return scores
    own = scores.gather(1, said)
    return scores.scatter(1, said, torch.where(own < 0, own * penalty, own / penalty))


def _warped(case: Mapping[str, Any], scores: Tensor) -> Tensor:
    """Temperature, top-k, top-p, in this order."""
    scores = scores / case.get("temperature", 1.0)
    top_k, top_p = case.get("top_k", 0), case.get("top_p", 1.0)
    if top_k:
        smallest = scores.topk(min(top_k, scores.shape[-1]), dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < smallest, float("-inf"))
    if top_p < 1:
        ascending, order = scores.sort(dim=-1)
        drop = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
        drop[:, -1] = False
        scores = scores.masked_fill(drop.scatter(1, order, drop), float("-inf"))
    return scores
