"""Speculative decoding of text on the shipped model: passes of the model and wall-clock, in turn, greedy.

    python -m unified.eval.bench.speculative [--samples 3] [--pairs 3] [--json]

Prompts are mazes told in words and questions about scenes, of the test split. Drafts are a look-up in what
was said (`PromptLookup`), the same model without every second layer (`Shallow`), and with `--draft FOLDER` a
smaller model. The ids are those of one pass a token, which is checked.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from unified.eval.bench.interleaved import Ratio, interleaved
from unified.eval.bench.table import rows_of
from unified.tasks.registry import make

from unified.apps.loading import load
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.decoding.strategies import PromptLookup, Shallow, SmallerModel, Speculative

TASKS = ("maze_text", "scene_question")
LENGTH = 4  # ids drafted a round
MOST = 192  # ids of an answer


def prompts(assistant: Any, task: str, count: int) -> list[list[int]]:
    """Ids of what comes before the answers of test samples."""
    made = make(task)
    return [
        assistant.processor.encode(made.sample(number, "test").messages[:-1], prompt=True)
        for number in range(count)
    ]


def answer(assistant: Any, asked: Sequence[list[int]], strategy: Any = None) -> tuple[list[list[int]], int]:
    """The ids said after each prompt, and the passes of the model that they took; no sketches."""
    found, passes = [], 0
    for prompt in asked:
        session = Session(assistant.model, strategy=strategy)
        session.feed(prompt)
        for _ in session.text(sampler=Sampler(temperature=0), max_tokens=MOST, draw=False):
            pass
        found.append(session.streams[0][len(prompt) :])
        passes += session.stats.passes
    return found, passes


def measure(
    assistant: Any, samples: int, pairs: int, drafts: dict[str, Any], tasks: Sequence[str] = TASKS
) -> list[dict[str, Any]]:
    """A row for each task and draft. RuntimeError where the ids are not those of one pass a token."""
    found = []
    for task in tasks:
        asked = prompts(assistant, task, samples)
        plain, plain_passes = answer(assistant, asked)
        for name, draft in drafts.items():
            strategy = Speculative(draft=draft, length=LENGTH)
            said, passes = answer(assistant, asked, strategy)
            if said != plain:
                raise RuntimeError(f"{name}, {task}: the ids are not those of one pass a token")
            ratio = interleaved(_again(assistant, asked, strategy), _again(assistant, asked, None), pairs)
            counts = {"ids": sum(map(len, plain)), "plain_passes": plain_passes, "passes": passes}
            found.append({"task": task, "draft": name, **counts, "ratio": asdict(ratio)})
    return found


def _again(assistant: Any, asked: Sequence[list[int]], strategy: Any) -> Callable[[], Any]:
    return lambda: answer(assistant, asked, strategy)


def lines(found: Sequence[dict[str, Any]]) -> list[str]:
    """The table in Markdown."""
    header = ("task", "draft", "ids", "passes, one a token", "passes", "times as fast")
    keys = ("task", "draft", "ids", "plain_passes", "passes")
    return rows_of(header, [(*(row[key] for key in keys), Ratio(**row["ratio"])) for row in found])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m unified.eval.bench.speculative", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", help="a folder (default: the shipped model)")
    parser.add_argument("--draft", help="a folder of a smaller model of the same text tokenizer")
    parser.add_argument("--samples", type=int, default=3, help="prompts of each task (3)")
    parser.add_argument("--pairs", type=int, default=3, help="of interleaved runs (3)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if min(options.samples, options.threads) < 1 or options.pairs < 2:
        parser.error("--samples and --threads must be at least 1, --pairs at least 2")
    torch.set_num_threads(options.threads)
    try:
        assistant = load(options.model)
        drafts: dict[str, Any] = {"PromptLookup": PromptLookup(), "Shallow": Shallow()}
        if options.draft:
            drafts["SmallerModel"] = SmallerModel(load(options.draft).model)
    except ValueError as error:
        parser.error(str(error))
    found = measure(assistant, options.samples, options.pairs, drafts)
    print(json.dumps(found) if options.json else "\n".join(lines(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
