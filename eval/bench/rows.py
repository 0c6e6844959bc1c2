"""The rows of the bench as a comparison reads them: which process measures a row, and where its numbers are.

Every time is in seconds and every size in MB, so that less is better in all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from unified.eval.bench import infinity, layout, mineworld, verbs, voxel, worlds
from unified.eval.bench.images import Case, cases

Result = dict[str, Any]  # what a process printed, and its `process_peak_mb`
Reader = Callable[[Result], float]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """`seconds` and `megabytes` read a result; a row has at least one of them. `yardstick`: code of others,
    which tells how steady the machine was."""

    name: str
    seconds: Reader | None = None
    megabytes: Reader | None = None
    yardstick: bool = False


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One process: `python -m unified.eval.bench.<module> <arguments>`, which prints JSON."""

    module: str
    arguments: tuple[str, ...]
    rows: tuple[Row, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def measurements(
    *, repeats: int, batches: Sequence[int], seconds: float, fields: Collection[str]
) -> list[Measurement]:
    """The whole bench. `repeats`: calls timed in a process. `seconds`: for each rate of the voxel world.
    `fields`: the fields of `Case` that every checkout knows."""
    images = [_image(case, fields) for case in cases(repeats, batches)]
    rest = [_verbs(repeats), _voxel(seconds), _worlds(seconds), _layout(repeats), _mineworld(repeats)]
    return [*images, *rest, _infinity(), _preference()]


def chosen(found: Sequence[Measurement], only: str | None) -> list[Measurement]:
    """The measurements with only the rows whose name contains `only`. ValueError if none does."""
    if only is None:
        return list(found)
    kept = [replace(m, rows=tuple(row for row in m.rows if only in row.name)) for m in found]
    kept = [measurement for measurement in kept if measurement.rows]
    if not kept:
        names = ", ".join(row.name for measurement in found for row in measurement.rows)
        raise ValueError(f"no row's name contains {only!r}; the rows are: {names}")
    return kept


def _image(case: Case, fields: Collection[str]) -> Measurement:
    name, yardstick = f"{case.method} {case.dtype} x{case.batch}", case.method == "published"
    known = {key: value for key, value in asdict(case).items() if key in fields}
    rows = (
        Row(
            name=f"{name} transformer",
            seconds=_at("transformer_seconds"),
            megabytes=_at("transformer_peak_mb"),
            yardstick=yardstick,
        ),
        Row(
            name=f"{name} decoder",
            seconds=_at("decoder_seconds"),
            megabytes=_at("peak_mb"),
            yardstick=yardstick,
        ),
    )
    return Measurement(module="images", arguments=(json.dumps(known),), rows=rows)


def _verbs(repeats: int) -> Measurement:
    rows = [
        Row(name=name.replace("_", " "), seconds=_inverse(_at(name)) if more else _at(name))
        for name, (_, more, _) in verbs.BOUNDS.items()
    ]
    return Measurement(
        module="verbs",
        arguments=("--json", "--repeats", str(repeats)),
        rows=(*rows, Row(name="verbs process", megabytes=_at("process_peak_mb"))),
    )


def _voxel(seconds: float) -> Measurement:
    names = [f"voxel {size}" for size in voxel.GOALS]
    rows = [Row(name=f"{name} frame", seconds=_inverse(_at("frames_per_second", name))) for name in names]
    crafter = _inverse(_at("frames_per_second", "crafter 64x64"))
    rows.append(Row(name="crafter 64x64 frame", seconds=crafter, yardstick=True))
    rows.append(Row(name="voxel process", megabytes=_at("process_peak_mb")))
    return Measurement(
        module="voxel",
        arguments=("--json", "--seconds", str(seconds)),
        rows=tuple(rows),
        environment=ONE_THREAD,
    )


def _worlds(seconds: float) -> Measurement:
    names = [f"{kind} x{count}" for kind in worlds.KINDS for count in worlds.ROWS]
    rows = [Row(name=f"{name} frame", seconds=_inverse(_at("frames_per_second", name))) for name in names]
    return Measurement(
        module="worlds",
        arguments=("--json", "--seconds", str(seconds)),
        rows=(*rows, Row(name="worlds process", megabytes=_at("process_peak_mb"))),
    )


def _layout(repeats: int) -> Measurement:
    rows = [
        Row(name=f"layout of one generated token x{count}", seconds=_thousandth(count))
        for count in layout.ROWS
    ]
    arguments = ("--json", "--repeats", str(repeats))
    whole = Row(name="layout process", megabytes=_at("process_peak_mb"))
    return Measurement(module="layout", arguments=arguments, rows=(*rows, whole))


def _mineworld(repeats: int) -> Measurement:
    names = [str(case) for case in mineworld.CASES]
    rows = [Row(name=f"world, {name}", seconds=_inverse(_at("frames_per_second", name))) for name in names]
    whole = Row(name="mineworld process", megabytes=_at("process_peak_mb"))
    return Measurement(
        module="mineworld", arguments=("--json", "--repeats", str(repeats)), rows=(*rows, whole)
    )


def _infinity() -> Measurement:
    rows = [Row(name=f"Infinity {name}", seconds=_at(name, "seconds")) for name in infinity.RESOLUTIONS]
    whole = Row(name="Infinity process", megabytes=_at("process_peak_mb"))
    return Measurement(module="infinity", arguments=("--json",), rows=(*rows, whole))


def _preference() -> Measurement:
    rows = (
        Row(name="preference pair", seconds=_inverse(_at("ours_pairs_per_second"))),
        Row(
            name="preference pair, plain TRL",
            seconds=_inverse(_at("plain_pairs_per_second")),
            yardstick=True,
        ),
    )
    return Measurement(module="preference", arguments=("--json",), rows=rows)


def _at(*keys: str) -> Reader:
    def read(result: Result) -> float:
        value: Any = result
        for key in keys:
            value = value[key]
        return float(value)

    return read


def _inverse(reader: Reader) -> Reader:
    return lambda result: 1 / reader(result)


def _thousandth(rows: int) -> Reader:
    reader = _at("milliseconds", str(rows))
    return lambda result: reader(result) / 1000
