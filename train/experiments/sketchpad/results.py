"""Results of arms as JSON, and their table: rates over all seeds with Wilson intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import binomtest
from unified.train.stored import write_text

CONFIDENCE = 0.95


def write(path: Path, result: Mapping[str, Any]) -> None:
    """A result, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(result, indent=1) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """All results of a folder, by name. ValueError, naming the file, for one that is none."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            result["arm"], result["seed"], result["solved"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path} is no result of this experiment") from None
        found.append(result)
    return found


def rate(right: float, count: int) -> str:
    """A share with the bounds of its Wilson interval, in percent; "-" of nothing."""
    if not count:
        return "-"
    share = right / count
    bounds = binomtest(round(right), count).proportion_ci(CONFIDENCE, method="wilson")
    return f"{100 * share:.0f} ({100 * bounds.low:.0f}-{100 * bounds.high:.0f})"


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: success by size for every arm and every kind of sketches, then what arms drew and took."""
    sizes = sorted({size for result in results for size in _sizes(result)}, key=int)
    head = ["arm", "sketches", *(f"{size}x{size}" for size in sizes), "seeds"]
    lines = [_line(head), _line(["---"] * len(head))]
    for arm, group in _by_arm(results).items():
        for shown in dict.fromkeys(name for result in group for name in result["solved"]):
            cells = [rate(*_sum(group, shown, size, "success", "mazes")) for size in sizes]
            seeds = sum(shown in result["solved"] for result in group)
            lines.append(_line([arm, shown, *cells, str(seeds)]))
    return "\n".join([*lines, "", *_second(results)]) + "\n"


def _second(results: Sequence[Mapping[str, Any]]) -> list[str]:
    head = [
        "arm", "parameters", "progress", "visual success", "layout kept", "training, s", "a maze, s",
    ]  # fmt: skip
    lines = [_line(head), _line(["---"] * len(head))]
    for arm, group in _by_arm(results).items():
        own = [result["solved"]["own"] for result in group if "own" in result["solved"]]
        every = [numbers for one in own for numbers in one.values()]
        mazes = sum(numbers["mazes"] for numbers in every)
        images = round(sum(numbers["images"] for numbers in every))
        progress = sum(numbers["progress"] for numbers in every) / mazes if mazes else 0.0
        drawn = [sum(n[key] for n in every) for key in ("visual_success", "consistent_images", "seconds")]
        lines.append(
            _line(
                [
                    arm,
                    f"{group[0]['parameters'] / 1e6:.1f}M",
                    f"{100 * progress:.0f}",
                    rate(drawn[0], mazes) if images else "-",
                    rate(drawn[1], images),
                    f"{sum(r['spent']['seconds'] for r in group) / len(group):.0f}",
                    f"{drawn[2] / mazes:.2f}" if mazes else "-",
                ]
            )
        )
    return lines


def _by_arm(results: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        groups.setdefault(result["arm"], []).append(result)
    return groups


def _sizes(result: Mapping[str, Any]) -> set[str]:
    return {size for numbers in result["solved"].values() for size in numbers}


def _sum(
    group: Sequence[Mapping[str, Any]], shown: str, size: str, right: str, count: str
) -> tuple[float, int]:
    found = [result["solved"].get(shown, {}).get(size) for result in group]
    numbers = [one for one in found if one]
    return sum(one[right] for one in numbers), sum(one[count] for one in numbers)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
