"""Golden folders of published systems in tests: verified, spoilt, and with keys removed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unified.checkpoints.__main__ import main, verify

GOLDEN = Path(__file__).parents[2] / "shared" / "golden"


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip where a folder is absent."""
    absent = [name for name in names if not (GOLDEN / name).is_dir()]
    return pytest.mark.skipif(bool(absent), reason=f"../shared/golden/{'/'.join(absent)} is absent")


def left_out(name: str, *more: str) -> dict[str, str]:
    """Verify a folder: every tensor, and what is called `more`, is reported once and none differs; those not
    compared, with reasons."""
    checks = list(verify(GOLDEN / name))
    assert [str(check) for check in checks if check.ok is False] == []
    assert sorted(check.name for check in checks) == sorted(
        [*load_file(GOLDEN / name / "io.safetensors"), *more]
    )
    return {check.name: check.detail for check in checks if check.ok is None}


def copied(
    name: str,
    to: Path,
    *,
    io: Callable[[dict[str, Tensor]], Any] = lambda stored: None,
    config: Callable[[dict[str, Any]], Any] = lambda options: None,
) -> Path:
    """A folder that may be changed, its tensors and options changed in place by `io` and `config`."""
    folder = to / "pack"
    folder.mkdir()
    stored = load_file(GOLDEN / name / "io.safetensors")
    options = json.loads((GOLDEN / name / "config.json").read_text())
    io(stored)
    config(options)
    save_file(stored, folder / "io.safetensors")
    (folder / "config.json").write_text(json.dumps(options))
    if (GOLDEN / name / "weights.safetensors").is_file():
        (folder / "weights.safetensors").symlink_to(GOLDEN / name / "weights.safetensors")
    return folder


def spoilt(stored: dict[str, Tensor], *names: str, by: float = 0.1) -> None:
    """Change one number of each of these tensors."""
    for name in names:
        value = stored[name].clone()
        first = value.view(-1)[:1]
        first.copy_(first + by if value.is_floating_point() else (first == 0).to(value.dtype))
        stored[name] = value


def differing(folder: Path) -> set[str]:
    return {check.name for check in verify(folder) if check.ok is False}


def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command ends with on an unusable folder."""
    assert main(["verify", str(folder)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "Error" not in error  # no name of an exception
    return error


def randomised(module: torch.nn.Module, seed: int = 0, scale: float = 0.3) -> Any:
    """The module in eval mode with random parameters."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=rng))
    return module.eval()


def without(options: Mapping[str, Any], *path: str) -> None:
    """Remove what stands under a path of keys."""
    inner: Any = options
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
