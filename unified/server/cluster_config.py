"""How a server is spread over replicas: the file of `unified serve --cluster FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from unified.finite import check_count, check_number
from unified.text_files import read_object

MOST_REPLICAS = 4096
MOST_EACH = 10**6  # seconds, processors or GPUs


@dataclass(frozen=True, kw_only=True)
class ReplicaConfig:
    """From `least` to `most` replicas of the model: another one where each has had more than `requests` at a
    time for `up` seconds, one fewer where they had less for `down` seconds. Ray places a replica where
    `cpus` and `gpus` are free (parts of a GPU too). ValueError for what is out of range."""

    least: int = 1
    most: int = 1
    requests: float = 16.0
    up: float = 10.0
    down: float = 300.0
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        for name in ("least", "most"):
            if isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be a whole number, got {getattr(self, name)}")
            check_count(name, getattr(self, name), 1)
        check_number("requests", self.requests, 1e-3)
        for name in ("up", "down", "cpus", "gpus"):
            check_number(name, getattr(self, name), 0.0, MOST_EACH)
        if not self.least <= self.most <= MOST_REPLICAS:
            raise ValueError(f"most must be from least ({self.least}) to {MOST_REPLICAS}, got {self.most}")


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """`ray`: the address of a Ray that runs ("auto": the one of this machine), or nothing: one is started for
    the server. `worlds`: whether one more process keeps worlds. `every_machine`: whether each machine with a
    replica answers requests, or the first alone. ValueError for other types."""

    ray: str = ""
    replicas: ReplicaConfig = ReplicaConfig()
    worlds: bool = True
    every_machine: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.ray, str) or self.ray == "local" or self.ray.startswith("ray://"):
            raise ValueError(
                f'ray must be "auto" or HOST:PORT of a Ray that this machine is part of, got {self.ray!r}'
            )
        if self.ray:
            from unified.tasks.ray_work import check_form

            check_form(self.ray)
        for name in ("worlds", "every_machine"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}")


def read_cluster(path: str | Path) -> ClusterConfig:
    """The configuration in a JSON file, whose keys are the fields above; those that are not there have their
    defaults. ValueError, in one line, for anything else."""
    held = read_object(path)
    try:
        _check_keys(held, ClusterConfig, "")
        if "replicas" in held:
            _check_keys(held["replicas"], ReplicaConfig, "replicas: ")
            held["replicas"] = ReplicaConfig(**held["replicas"])
        return ClusterConfig(**held)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _check_keys(held: Any, kind: type, where: str) -> None:
    known = [field.name for field in fields(kind)]
    if not isinstance(held, Mapping):
        raise ValueError(f"{where}expected an object with {', '.join(known)}")
    for name in held:
        if name not in known:
            raise ValueError(f"{where}unknown key {name!r:.60}: known are {', '.join(known)}")
