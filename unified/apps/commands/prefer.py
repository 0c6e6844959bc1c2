"""`unified prefer`: two answers to each prompt are shown, and a person's choice is recorded as a pair."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unified.apps.answering import Content, images_of, text_of
from unified.apps.assistant import Assistant
from unified.apps.commands.common import check_folder, check_target, own_assistant, save
from unified.apps.pictures import open_picture
from unified.apps.preferring import Pair
from unified.apps.terminal import protocol, render
from unified.text_files import read_text

KEYS = "1 or 2: the better one; s: skip; q: stop"


def prefer(options: argparse.Namespace) -> int:
    prompts = _prompts(options)
    check_target(options.out)
    check_folder(options.pictures)
    guide = own_assistant(options)
    recorded = 0
    for number, prompt in enumerate(prompts):
        messages = guide.request(prompt, open_picture(options.image).image if options.image else None)
        pair = _pair(guide, messages, options, guide.seed + 2 * number)
        _show(prompt, pair.contents(), options.pictures)
        choice = _ask(number, len(prompts))
        if choice == "q":
            break
        if choice in "12":
            recorded += _record(options.out, pair, int(choice) - 1)
    print(f"{options.out}: {recorded} pair{'' if recorded == 1 else 's'} recorded")
    return 0


def _prompts(options: argparse.Namespace) -> list[str]:
    """The prompt, or the lines of a file of prompts. ValueError for neither, or an empty one."""
    if bool(options.prompt) == bool(options.prompts):
        raise ValueError("give one prompt, or a file of prompts with --prompts")
    if options.prompt:
        return [options.prompt]
    if not options.prompts.is_file():
        raise ValueError(f"{options.prompts}: no such file")
    lines = [line.strip() for line in read_text(options.prompts).splitlines()]
    if not any(lines):
        raise ValueError(f"{options.prompts}: no prompts in it")
    return [line for line in lines if line]


def _pair(guide: Assistant, messages: list[dict[str, Any]], options: argparse.Namespace, seed: int) -> Pair:
    """Two finished answers."""
    how = {"draw": options.draw, "temperature": options.temperature, "max_tokens": options.tokens}
    pair = Pair(guide, messages, seed=seed, **how)
    for _ in pair.events():
        pass
    return pair


def _show(prompt: str, answers: list[Content], folder: Path) -> None:
    """Texts are printed; pictures too where the terminal can, and written into the folder."""
    print(f"\n{prompt}")
    how = protocol(os.environ, sys.stdout)
    for number, content in enumerate(answers, start=1):
        print(f"[{number}] {text_of(content)}")
        for place, image in enumerate(images_of(content)):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"answer-{number}{f'-{place + 1}' if place else ''}.png"
            save(image, path)
            print(render(image, how) if how else f"    {path}")


def _ask(number: int, count: int) -> str:
    """One of the keys; the end of the input stops."""
    for line in _lines(f"{number + 1} of {count}. {KEYS} > "):
        if line in ("1", "2", "s", "q"):
            return line
        print(KEYS)
    return "q"


def _lines(question: str) -> Iterator[str]:
    while True:
        try:
            yield input(question).strip().lower()
        except EOFError:
            print()
            return


def _record(path: Path, pair: Pair, better: int) -> bool:
    """Append a record to the file; equal answers are left out."""
    record = pair.record(better)
    if record is None:
        print("the answers are equal: not recorded")
        return False
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    return True
