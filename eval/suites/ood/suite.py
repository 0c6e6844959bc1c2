"""The suite: every kind of request, asked as a user asks, with a rate and what is wanted of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from unified.eval.measurement import Example, Goal, Result, Run, Table, grouped
from unified.eval.metrics.rates import Estimate, rate
from unified.eval.suites.ood.asking import Case, Reply, reply_to
from unified.eval.suites.ood.drawing_cases import drawing_cases
from unified.eval.suites.ood.edit_cases import edit_cases
from unified.eval.suites.ood.maze_cases import maze_cases
from unified.eval.suites.ood.question_cases import question_cases
from unified.eval.suites.ood.talk_cases import refusal_cases, small_talk_cases

SHARE = 8  # requests go one by one, as a user's do: an eighth of the count of other suites for each kind
MOST_EXAMPLES = 6  # failures of each kind in the report


@dataclass(frozen=True, kw_only=True)
class Kind:
    """`cases(split, count)`; `share` of the count; `wanted`: the rate that is wanted."""

    cases: Callable[[str, int], Iterator[Case]]
    wanted: float
    share: float = 1.0


KINDS: dict[str, Kind] = {
    "questions": Kind(cases=question_cases, wanted=0.75),
    "drawings, 1 object": Kind(cases=partial(drawing_cases, objects=1), wanted=0.75, share=1 / 3),
    "drawings, 2 objects": Kind(cases=partial(drawing_cases, objects=2), wanted=0.75, share=1 / 3),
    "drawings, 3 objects": Kind(cases=partial(drawing_cases, objects=3), wanted=0.75, share=1 / 3),
    "edits": Kind(cases=edit_cases, wanted=0.55),
    "small talk": Kind(cases=small_talk_cases, wanted=0.95),
    "refusals": Kind(cases=refusal_cases, wanted=0.95),
    "mazes up to 5x5": Kind(cases=maze_cases, wanted=0.85),
}
SKETCHES, SKETCHES_WANTED = "sketches, where one is drawn", 0.80
NOTE = (
    "Other words, another renderer, the verbs and the chat with default settings; nothing is tuned on it. "
    "What is in it and how it is judged: docs/evaluation/ood.md."
)


@dataclass(frozen=True, kw_only=True)
class Judged:
    case: Case
    reply: Reply
    right: bool


def ood(run: Run) -> Result:
    """An eighth of `count` requests of every kind of `KINDS`."""
    with tempfile.TemporaryDirectory() as folder:
        judged = {name: _judged(run, kind, Path(folder)) for name, kind in KINDS.items()}
    rates = {name: rate(float(one.right) for one in found) for name, found in judged.items()}
    wanted = {name: kind.wanted for name, kind in KINDS.items()}
    rates[SKETCHES] = rate(_sketches([one for found in judged.values() for one in found]))
    wanted[SKETCHES] = SKETCHES_WANTED
    return Result(
        numbers={
            "by_kind": rates,
            "in_detail": {name: _by(found, _kind) for name, found in judged.items()},
            "by_channel": {name: _by(found, _channel) for name, found in judged.items()},
        },
        tables=[
            _summary(rates, wanted),
            _table("By channel", judged, _channel),
            _table("In detail", judged, _kind),
        ],
        goals=[
            Goal(f"other words and renderer, {name}", found.value if found.trials else None, wanted[name])
            for name, found in rates.items()
        ],
        examples=[example for found in judged.values() for example in _failures(found)],
        notes=[NOTE],
    )


def _judged(run: Run, kind: Kind, folder: Path) -> list[Judged]:
    count = max(1, round(run.count * kind.share / SHARE))
    found = []
    for case in kind.cases(run.split, count):
        reply = reply_to(run.assistant, case, folder)
        found.append(Judged(case=case, reply=reply, right=case.right(reply)))
    return found


def _sketches(judged: Sequence[Judged]) -> list[float]:
    """Of the mazes with a sketch, whether the last one shows the way."""
    drawn = [(one.case.sketch, one.reply.pictures) for one in judged if one.reply.pictures]
    return [float(sketch(pictures[-1])) for sketch, pictures in drawn if sketch is not None]


def _kind(one: Judged) -> str:
    return one.case.kind


def _channel(one: Judged) -> str:
    return one.case.channel


def _by(judged: Sequence[Judged], key: Callable[[Judged], str]) -> dict[str, Estimate]:
    pairs = [(key(one), float(one.right)) for one in judged]
    return {name: rate(found) for name, found in grouped(pairs).items()}


def _summary(rates: dict[str, Estimate], wanted: dict[str, float]) -> Table:
    rows: list[list[Any]] = [
        [
            name,
            found if found.trials else None,
            found.trials,
            f"{100 * wanted[name]:.0f} %",
            "-" if not found.trials else "reached" if found.value >= wanted[name] else "MISSED",
        ]
        for name, found in rates.items()
    ]
    header = ["requests", "right", "number", "wanted", ""]
    return Table("Out of distribution: other words, another renderer", header, rows)


def _table(title: str, judged: dict[str, list[Judged]], key: Callable[[Judged], str]) -> Table:
    rows: list[list[Any]] = [
        [name, part, found] for name, all_of in judged.items() for part, found in _by(all_of, key).items()
    ]
    return Table(title, ["requests", "which", "right"], rows)


def _failures(judged: Sequence[Judged]) -> list[Example]:
    wrong = [one for one in judged if not one.right][:MOST_EXAMPLES]
    return [
        Example(
            f"{' | '.join((*one.case.earlier, one.case.words or '/solve'))}  [{one.case.channel}] said: "
            f"{one.reply.text[-60:]!r}" + (f" true: {one.case.truth}" if one.case.truth else ""),
            [*([] if one.case.picture is None else [one.case.picture]), *one.reply.pictures[-4:]],
        )
        for one in wrong
    ]
