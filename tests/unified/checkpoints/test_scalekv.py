"""ScaleKV's golden folder, and folders of its form with other sizes, made here by plain loops."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unified.checkpoints import scalekv_verify
from unified.checkpoints.__main__ import verify

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
needs_golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="the reference vectors (../shared/golden) are absent"
)


@needs_golden
def test_every_released_selection_is_recomputed(tmp_path: Path) -> None:
    """Away from Infinity's weights: what needs them says so."""
    source = GOLDEN / "scalekv"
    (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())
    (tmp_path / "io.safetensors").write_bytes((source / "io.safetensors").read_bytes())
    checks = list(verify(tmp_path))
    assert [str(check) for check in checks if check.ok is False] == []
    assert sorted(check.name for check in checks) == sorted(load_file(source / "io.safetensors"))
    for check in checks:
        if check.ok is None:
            asked = check.name[-2:] in (".k", ".q", ".v")
            assert check.detail == f"not compared: {'an input' if asked else OBSTACLE}"
            assert asked or check.name.startswith("e2e.")


@pytest.mark.slow
@needs_golden
@pytest.mark.slow
def test_an_image_by_infinity_is_recomputed() -> None:
    found = [check for check in verify(GOLDEN / "scalekv") if check.name.startswith("e2e.")]
    assert len(found) == 7
    assert [str(check) for check in found if not check.ok] == []


OBSTACLE = "needs the folder infinity_transformer beside this one"


def window(tokens: int, length: int, size: int) -> list[int]:
    side, grid = math.isqrt(tokens), math.isqrt(size)
    if side**2 != tokens or grid**2 != size or side < grid:
        return list(range(max(length - size, 0), length))
    patch = side // grid
    centres = [patch * number + (patch - 1) // 2 for number in range(grid)]
    return [length - tokens + row * side + column for row in centres for column in centres]


def pooled(scores: list[float], reach: int, kind: str) -> list[float]:
    around = [scores[max(place - reach, 0) : place + reach + 1] for place in range(len(scores))]
    return [max(near) if kind == "maxpool" else sum(near) / (2 * reach + 1) for near in around]


def keeps(config: dict, q: Tensor, keys: Tensor, seeing: list[int], budget: int, tokens: int) -> list[int]:
    """Of one head: the observers and the best others. q [n, D], keys [K, D]."""
    logits = (q @ keys.T / keys.shape[1] ** 0.5).tolist()
    asking = [logits[place - (len(keys) - tokens)] for place in seeing]
    scores = [sum(column) for column in zip(*asking, strict=True)]
    hidden = [-math.inf if place in seeing else score for place, score in enumerate(scores)]
    smooth = pooled(hidden, config["kernel_size"] // 2, config["pooling"])
    others = [place for place in range(len(keys)) if place not in seeing]
    best = sorted(others, key=lambda place: -smooth[place])[: max(budget - len(seeing), 0)]
    return sorted([*seeing, *best])


def made(config: dict) -> dict[str, Tensor]:
    """The tensors of a folder of one drafter and one refiner. Nothing ties: maxima are of one."""
    found, rng = {}, torch.Generator().manual_seed(config["seed"])
    for layer in range(2):
        key = value = torch.zeros(1, 1, 0, 4)
        for step, tokens in enumerate(config["scale_tokens"]):
            name, total = f"unit.layer{layer}.scale{step}", sum(config["scale_tokens"][: step + 1])
            k, q, v = (torch.randn(1, 1, tokens, 4, generator=rng) for _ in range(3))
            v[..., -1] = torch.arange(total - tokens, total)
            found |= {f"{name}.k": k, f"{name}.q": q, f"{name}.v": v}
            key, value = torch.cat([key, k], dim=2), torch.cat([value, v], dim=2)
            entry = config["budgets"].get(str(min(step + 2, len(config["scale_tokens"]))))
            budget = entry["max" if entry["drafter"][layer] else "min"] if entry else math.inf
            if total > config["base_capacity"] and key.shape[2] > budget:
                seeing = window(tokens, key.shape[2], config["window_size"])
                kept = keeps(config, q[0, 0], key[0, 0], seeing, budget, tokens)
                key, value = key[:, :, kept], value[:, :, kept]
            found[f"{name}.kept_token_index"] = value[..., -1].int()
            found[f"{name}.kept_len"] = torch.tensor(key.shape[2])
            found[f"{name}.kept_k_checksum"] = key.sum(dim=(2, 3))
        found |= {f"unit.layer{layer}.final_k": key, f"unit.layer{layer}.final_v": value}
    for tokens in (4, 7, 16):
        seeing = window(tokens, 100 + tokens, config["window_size"])
        found[f"window.scale_size{tokens}"] = torch.tensor(seeing)
    return found


def config(**changes: object) -> dict:
    entry = {"max": 24, "min": 11, "drafter": [0, 1]}
    options = {
        "seed": 3,
        "window_size": 4,
        "base_capacity": 15,
        "kernel_size": 1,
        "pooling": "maxpool",
        "scale_tokens": [1, 4, 9, 12, 16, 25],
        "budgets": {"5": entry, "6": {**entry, "max": 40, "min": 3}},
    }
    return {**options, **changes}


@pytest.mark.parametrize(
    "changes",
    [{}, {"pooling": "avgpool", "kernel_size": 3}, {"window_size": 5}, {"base_capacity": 30}, {"seed": 4}],
    ids=["max", "average", "no_square", "later", "seed"],
)
def test_other_sizes(changes: dict, tmp_path: Path) -> None:
    options = config(**changes)
    tensors = made(options)
    (tmp_path / "config.json").write_text(json.dumps(options))
    save_file(tensors, tmp_path / "io.safetensors")
    checks = list(verify(tmp_path))
    assert [str(check) for check in checks if check.ok is False] == []
    assert sum(check.ok is None for check in checks) == 3 * 2 * 6
    name = "unit.layer0.scale4.kept_token_index"
    tensors[name][0, 0, 2] += 1
    tensors["window.scale_size16"][0] += 1
    save_file(tensors, tmp_path / "io.safetensors")
    wrong = {check.name for check in verify(tmp_path) if check.ok is False}
    assert wrong == {name, "window.scale_size16"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"pooling": "sum"}, "maxpool, avgpool, got 'sum'"), ({"kernel_size": 2}, "a kernel of 2")],
)
def test_configs_that_make_no_sense_are_refused(changes: dict, said: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config(**changes)))
    save_file(made(config()), tmp_path / "io.safetensors")
    with pytest.raises(ValueError, match=said):
        list(verify(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"budgets": {}, "window_size": 4}))
    with pytest.raises(ValueError, match="no base_capacity"):
        list(scalekv_verify.verify(tmp_path))
