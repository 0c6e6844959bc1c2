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


def printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, set[str], list[str]]:
    """Of the command on a folder: its status, names of what differs, lines of what is not compared."""
    status = main(["verify", str(folder)])
    lines = capsys.readouterr().out.splitlines()
    failed = {line.split()[1].removesuffix(":") for line in lines if line.startswith("FAIL")}
    return status, failed, [line for line in lines if line.startswith("skip")]


def compared(
    name: str,
    to: Path,
    capsys: pytest.CaptureFixture[str],
    changed: Mapping[str, float],
    change: Callable[[dict[str, Tensor]], Any] = lambda stored: None,
) -> list[str]:
    """The command agrees with a folder; of a copy in which each of these results differs by so much, and
    others as `change` leaves them, it reports those that were changed. The lines of what is not compared."""
    status, failed, skipped = printed(GOLDEN / name, capsys)
    assert (status, failed) == (0, set())

    def every(stored: dict[str, Tensor]) -> None:
        before = {key: value.clone() for key, value in stored.items()}
        for key, by in changed.items():
            spoilt(stored, key, by=by)
        change(stored)
        names.update(key for key, value in before.items() if not torch.equal(value, stored[key]))

    names: set[str] = set()
    status, failed, _ = printed(copied(name, to, io=every), capsys)
    assert (status, failed) == (1, names)
    assert set(changed) <= names
    return skipped


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


def changed(options: dict[str, Any], change: Mapping[str, Any]) -> None:
    """Set options in place; those that are None are removed."""
    options.update(change)
    for key in [key for key, value in change.items() if value is None]:
        del options[key]


def without(options: Mapping[str, Any], *path: str) -> None:
    """Remove what stands under a path of keys."""
    inner: Any = options
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
