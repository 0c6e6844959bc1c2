"""`python -m unified.eval.media`: the README's film, chat, example and figures, made anew.

`--figures` reads the reports alone and runs no model.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unified.eval.media.readme import TOUR, pages

from unified.command import Parser, run
from unified.pretrained import SHIPPED

NAME = "python -m unified.eval.media"
KEPT = ("verb", "words", "said", "right", "rule")  # of a shot, without its pictures


def work(options: argparse.Namespace) -> int:
    if not options.figures:
        record(options.root / "docs", options.seed)
    for page, text in pages(options.root).items():
        page.write_text(text, encoding="utf-8")
        print(f"wrote {page}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(prog=NAME, description="What the README shows, made anew.")
    parser.add_argument("--root", type=Path, default=Path(), help="the checkout (default: this folder)")
    parser.add_argument("--figures", action="store_true", help="the blocks alone, from the JSON there is")
    parser.add_argument("--seed", type=int, default=0, help="of the model (default 0)")
    return run(NAME, work, parser.parse_args(arguments))


def shipped_hash() -> str:
    """The first twelve digits of the SHA-256 of the shipped model's file."""
    return hashlib.sha256((SHIPPED / "model.safetensors").read_bytes()).hexdigest()[:12]


def record(docs: Path, seed: int) -> None:
    """Run the tour and the chat; write the film and the JSON that the blocks are made of."""
    from unified.eval.media.film import save_film
    from unified.eval.media.tour import PYTHON, chat, python_result, shots

    import unified

    model = unified.load(seed=seed)
    shown = list(shots(model))
    (docs / TOUR).parent.mkdir(parents=True, exist_ok=True)
    save_film(shown, (docs / TOUR).with_suffix(".gif"))
    data: dict[str, Any] = {
        "command": f"{NAME} --seed {seed}",
        "weights": shipped_hash(),
        "seed": seed,
        "dtype": str(model.model.dtype).removeprefix("torch."),
        "shots": [{name: getattr(shot, name) for name in KEPT} for shot in shown],
        "chat": [asdict(line) for line in chat(model)],
        "python": PYTHON,
        "printed": python_result(),
    }
    (docs / TOUR).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
