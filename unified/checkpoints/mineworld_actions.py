"""MineWorld's published action tokenizer against ours: every id, bin and bin centre of a golden folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from unified.text_files import parse_json, read_lines, read_object
from unified.tokenizers.action import ActionConfig, ActionTokenizer

from .check import Check, close, exact, not_compared

CENTRE_TOLERANCE = 1e-9  # degrees, in float64
VPT_CONFIG = ActionConfig(camera_bins=11, camera_binsize=2, camera_maxval=10, camera_mu=10)
"""The quantiser of the inverse dynamics model that the evaluation uses."""


def matches(config: dict, folder: Path) -> bool:
    return "num_camera_bins" in config and "camera_mu" in config


def verify(folder: Path) -> Iterator[Check]:
    """Stage 1, stage 2 and the camera quantiser. Raises ValueError when a file is missing or unreadable."""
    tokenizer = ActionTokenizer(_read_config(folder / "config.json"))
    raw = _read_lines(folder / "actions.jsonl", ("raw", "env_action", "is_null", "camera_bins", "token_ids"))
    direct = _read_lines(folder / "env_actions.jsonl", ("env_action", "camera_bins", "token_ids"))
    tensors = _read_tensors(folder / "io.safetensors")
    yield _same("vocab.json", [tokenizer.vocabulary], [read_object(folder / "vocab.json")])
    yield from _check_recorder_lines(tokenizer, raw)
    yield from _check_actions("env_actions.jsonl", tokenizer, direct)
    yield from _check_tensors(tokenizer, tensors, raw)


def _check_recorder_lines(tokenizer: ActionTokenizer, lines: list[dict]) -> Iterator[Check]:
    name = "actions.jsonl"
    stage_1 = [tokenizer.from_recorder(line["raw"]) for line in lines]
    actions = [{**action, "camera": action["camera"].tolist()} for action, _ in stage_1]
    yield _same(f"{name} env_action", actions, [line["env_action"] for line in lines])
    yield _same(f"{name} is_null", [null for _, null in stage_1], [line["is_null"] for line in lines])
    chained = tokenizer.encode(action for action, _ in stage_1)
    yield exact(f"{name} token_ids from raw", chained, torch.tensor([line["token_ids"] for line in lines]))
    yield from _check_actions(name, tokenizer, lines)
    centred = [line for line in lines if "camera_bin_centres_deg" in line]
    if centred:
        centres = torch.tensor([line["camera_bin_centres_deg"] for line in centred], dtype=torch.float64)
        got = torch.from_numpy(tokenizer.degrees([line["camera_bins"] for line in centred]))
        yield close(f"{name} camera_bin_centres_deg", got, centres, atol=CENTRE_TOLERANCE)


def _check_actions(name: str, tokenizer: ActionTokenizer, lines: list[dict]) -> Iterator[Check]:
    """Stage 2 alone, and back: the ids decode to actions that have the same ids."""
    actions = [line["env_action"] for line in lines]
    bins = tokenizer.bins([action["camera"] for action in actions])
    yield exact(
        f"{name} camera_bins", torch.from_numpy(bins), torch.tensor([ln["camera_bins"] for ln in lines])
    )
    want = torch.tensor([line["token_ids"] for line in lines])
    ids = tokenizer.encode(actions)
    yield exact(f"{name} token_ids", ids, want)
    names = set().union(*actions)
    columns = {name: np.array([action.get(name, 0) for action in actions]) for name in names}
    yield exact(f"{name} token_ids, one batch", tokenizer.encode(columns), want)
    yield exact(f"{name} token_ids, decoded and encoded", tokenizer.encode(tokenizer.decode(ids)), want)


def _check_tensors(tokenizer: ActionTokenizer, tensors: dict, lines: list[dict]) -> Iterator[Check]:
    config = tokenizer.config
    linear = ActionConfig(
        camera_bins=config.camera_bins,
        camera_binsize=config.camera_binsize,
        camera_maxval=config.camera_maxval,
        scheme="linear",
    )
    vpt = ActionTokenizer(VPT_CONFIG)
    sweep, index = tensors["camera_degrees"].numpy(), tensors["bin_index"].numpy()
    edges = np.arange(len(tensors["bin_edge_degrees"])) + 0.5
    bins = {
        "camera_bins": tokenizer.bins(sweep),
        "lin_camera_bins": ActionTokenizer(linear).bins(sweep),
        "vpt_camera_bins": vpt.bins(sweep),
        "bin_index": np.arange(config.camera_bins),
        "token_ids": tokenizer.encode(line["env_action"] for line in lines).numpy(),
    }
    degrees = {
        "bin_centre_degrees": tokenizer.degrees(index),
        "bin_edge_degrees": tokenizer.degrees(edges),
        "vpt_bin_centre_degrees": vpt.degrees(np.arange(VPT_CONFIG.camera_bins)),
    }
    for name, want in sorted(tensors.items()):
        if name in bins:
            yield exact(name, torch.from_numpy(bins[name]), want)
        elif name in degrees:
            yield close(name, torch.from_numpy(degrees[name]), want, atol=CENTRE_TOLERANCE)
        else:
            yield not_compared(name, "input" if name == "camera_degrees" else "unknown tensor")


def _read_config(path: Path) -> ActionConfig:
    config = read_object(path)
    try:
        return ActionConfig(
            camera_bins=config["num_camera_bins"],
            camera_binsize=config["camera_binsize"],
            camera_maxval=config["camera_maxval"],
            camera_mu=config["camera_mu"],
            scheme=config["quantization_scheme"],
            whole_degrees=True,
            mouse_to_degrees=config["mouse_to_degrees"],
            offset=config["action_vocab_offset"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: {error} is missing or has the wrong type") from None


def _read_lines(path: Path, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    lines = []
    for number, text in enumerate(read_lines(path), start=1):
        try:
            line = parse_json(text)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        missing = [name for name in fields if not isinstance(line, dict) or name not in line]
        if missing:
            raise ValueError(f"{path}, line {number}: {missing[0]!r} is missing")
        lines.append(line)
    if not lines:
        raise ValueError(f"{path}: no lines")
    return lines


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    for name in ("camera_degrees", "bin_index", "bin_edge_degrees"):
        if name not in tensors:
            raise ValueError(f"{path}: tensor {name!r} is missing")
    return tensors


def _same(name: str, got: list[Any], want: list[Any]) -> Check:
    wrong = [k for k, (a, b) in enumerate(zip(got, want, strict=True)) if a != b]
    where = f", first at {wrong[0]}" if wrong and len(want) > 1 else ""
    return Check(name, not wrong, f"{len(wrong)} of {len(want)} differ (exact){where}")
