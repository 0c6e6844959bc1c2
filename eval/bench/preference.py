"""Pairs a second of preference tuning beside plain TRL: one decoder, the same rows of ids.

TRL's own `DPOTrainer` trains a Qwen2 of the same size and reads the ids of our rows, images included, as a
text; `PreferenceTrainer` trains a `UnifiedModel` around that decoder and reads them as what they are. Both
keep a full copy as the reference. Their runs alternate in one process.

python -m unified.eval.bench.preference
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch

GOAL = 0.9  # pairs a second of ours by those of plain TRL
SIZES = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096}
WORDS: dict[str, Any] = {"text": 1024, "visual": 4096, "orders": ["next_scale"], "max_side": 16}
SIDES = (1, 2, 4, 8, 16)  # of the maps of an image
PAIRS, BATCH, TEXT = 8, 2, 24
WARM = 2  # steps of a run that are not counted


def rows(words: Any, count: int = PAIRS, sides: Sequence[int] = SIDES) -> list[dict[str, list[int]]]:
    """Pairs of drawings with random codes, after prompts of `TEXT` random ids."""
    generator = torch.Generator().manual_seed(0)

    def draw(length: int, high: int) -> list[int]:
        return torch.randint(0, high, (length,), generator=generator).tolist()

    shapes = [(side, side) for side in sides]
    found = []
    for _ in range(count):
        prompt = [words.begin, words.user, *draw(TEXT, words.text), words.end, words.assistant]
        row = {"prompt_ids": prompt}
        for side in ("chosen_ids", "rejected_ids"):
            codes = draw(sum(side * side for side in sides), words.visual)
            header = words.open_write("next_scale", shapes)
            read = words.read_segment(codes[-(sides[-1] ** 2) :], shapes[-1:])
            row[side] = [*header, *words.visual_ids(codes), words.close, *read, words.end]
        found.append(row)
    return found


def trainers(
    folder: str, steps: int, sizes: dict[str, int], words: dict[str, Any], sides: Sequence[int]
) -> dict[str, Any]:
    """Ours and TRL's own, ready to train for so many steps each time."""
    from datasets import Dataset
    from transformers import Qwen2Config, Qwen2ForCausalLM
    from trl import DPOConfig, DPOTrainer
    from unified.train.preference import PreferenceConfig, PreferenceTrainer
    from unified.train.preference.tokenizer import control_tokenizer

    from unified.model import UnifiedConfig, UnifiedModel

    class Plain(DPOTrainer):
        """TRL's, given rows that are ids already."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    shape: dict[str, Any] = dict(sizes)
    options: dict[str, Any] = {"attn_implementation": "by_sample"}
    backbone = {"model_type": "qwen2", **shape}
    ours = UnifiedModel(UnifiedConfig(vocabulary=words, backbone=backbone, **options))
    vocabulary = ours.vocabulary
    plain = [Qwen2ForCausalLM(Qwen2Config(vocab_size=vocabulary.size, **shape)) for _ in range(2)]
    plain[1].load_state_dict(plain[0].state_dict())
    pairs = Dataset.from_list(rows(vocabulary, sides=sides))
    settings: dict[str, Any] = {
        "output_dir": folder,
        "max_steps": steps,
        "per_device_train_batch_size": BATCH,
        "max_length": None,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "bf16": False,
        "report_to": [],
        "disable_tqdm": True,
    }
    return {
        "plain": Plain(
            plain[0],
            ref_model=plain[1],
            args=DPOConfig(**settings),
            train_dataset=pairs,
            processing_class=control_tokenizer(vocabulary),
        ),
        "ours": PreferenceTrainer(ours, args=PreferenceConfig(**settings), train_dataset=pairs),
    }


def measure(
    rounds: int = 2,
    steps: int = 5,
    sizes: dict[str, int] | None = None,
    words: dict[str, Any] | None = None,
    sides: Sequence[int] = SIDES,
) -> dict[str, float]:
    """Pairs a second of both by the median step of all rounds, and their ratio."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        """Seconds of every step after the first ones of a run."""

        def __init__(self) -> None:
            self.found: list[float] = []

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.start = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step > WARM:
                self.found.append(time.perf_counter() - self.start)

    with tempfile.TemporaryDirectory() as folder:
        made = trainers(folder, steps, sizes or SIZES, words or WORDS, sides)
        clocks = {name: Clock() for name in made}
        for name, trainer in made.items():
            trainer.add_callback(clocks[name])
        for _ in range(rounds):
            for trainer in made.values():
                trainer.train()
    speed = {name: BATCH / statistics.median(clock.found) for name, clock in clocks.items()}
    return {
        "ours_pairs_per_second": speed["ours"],
        "plain_pairs_per_second": speed["plain"],
        "ratio": speed["ours"] / speed["plain"],
    }


def lines(measured: dict[str, float]) -> list[str]:
    verdict = "reached" if measured["ratio"] >= GOAL else "MISSED"
    return [
        f"preference tuning: {measured['ours_pairs_per_second']:.2f} pairs/s, plain TRL "
        f"{measured['plain_pairs_per_second']:.2f}: {measured['ratio']:.2f} times (goal {GOAL}: {verdict})"
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m unified.eval.bench.preference", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=2, help="runs of each (2)")
    parser.add_argument("--steps", type=int, default=5, help=f"of a run, {WARM} of them not counted (5)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.threads < 1 or options.steps <= WARM:
        parser.error(f"--rounds and --threads must be at least 1, --steps more than {WARM}")
    torch.set_num_threads(options.threads)
    measured = measure(options.rounds, options.steps)
    print(json.dumps(measured) if options.json else "\n".join(lines(measured)))
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(main())
