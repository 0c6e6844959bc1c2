"""Text beside `generate` of transformers: decoders of the same size, greedy, tokens a second, in turn.

    python -m unified.eval.bench.text [--rows 1 16] [--tokens 64] [--pairs 7] [--json]

Ours is a `UnifiedModel` (8 layers, width 512) through `Session.text`, the other `Qwen3ForCausalLM` of the
same width, layers, heads, MLP and vocabulary with its static or its growing cache, whichever is faster.
Weights are random.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from unified.eval.bench.images import CODES
from unified.eval.bench.interleaved import PAIRS, Ratio, interleaved
from unified.eval.bench.table import goal, rows_of

from unified.config import UnifiedConfig, text_decoder
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.model import UnifiedModel

PROMPT = 64
GOALS = {1: 1.3, 16: 1.5}  # by rows
SIZES: dict[str, int] = {"width": 512, "layers": 8, "heads": 8, "kv_heads": 8, "mlp": 2048}
CACHES = ("dynamic", "static")

Write = Callable[[], None]


def ours(sizes: dict[str, int], rows: int, tokens: int) -> tuple[Write, int]:
    """What writes so many tokens after a prompt, and the size of its vocabulary."""
    torch.manual_seed(0)
    config = UnifiedConfig(backbone=text_decoder(**sizes), vocabulary={"text": 1024, "visual": CODES})
    model: Any = UnifiedModel(config).eval().fuse()
    words = model.vocabulary
    with torch.no_grad():
        model.get_output_embeddings().weight[words.end] = 0  # never the likeliest
    prompt = [words.begin, words.user, *range(PROMPT - 4), words.end, words.assistant]

    def write() -> None:
        session = Session(model, rows=rows)
        session.feed([prompt] * rows)
        for _ in session.text(sampler=Sampler(temperature=0), max_tokens=tokens, draw=False):
            pass
        written = min(len(row) for row in session.streams) - len(prompt)
        if written < tokens:
            raise RuntimeError(f"the turn ended after {written} of {tokens} tokens: nothing can be compared")

    return write, words.size


def theirs(sizes: dict[str, int], vocabulary: int, rows: int, tokens: int, cache: str) -> Write:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=sizes["width"],
        intermediate_size=sizes["mlp"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        num_key_value_heads=sizes["kv_heads"],
        head_dim=sizes["width"] // sizes["heads"],
        tie_word_embeddings=False,
    )
    model = Qwen3ForCausalLM(config).eval()
    ids = torch.arange(PROMPT).expand(rows, -1).contiguous()
    options: dict[str, Any] = {"min_new_tokens": tokens, "max_new_tokens": tokens, "do_sample": False}

    def write() -> None:
        with torch.inference_mode():
            model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0,
                           cache_implementation=cache, **options)  # fmt: skip

    return write


def measure(
    rows: Sequence[int], tokens: int, pairs: int, sizes: dict[str, int] | None = None
) -> list[dict[str, Any]]:
    """A row for each number of rows: the ratio beside the faster cache of transformers."""
    sizes, found = sizes or SIZES, []
    for count in rows:
        mine, vocabulary = ours(sizes, count, tokens)
        both = {
            cache: interleaved(mine, theirs(sizes, vocabulary, count, tokens, cache), pairs)
            for cache in CACHES
        }
        cache = min(both, key=lambda name: both[name].theirs)
        found.append({"rows": count, "tokens": tokens, "cache": cache, "ratio": asdict(both[cache])})
    return found


def lines(found: Sequence[dict[str, Any]]) -> list[str]:
    """The table in Markdown, and the goals below it."""
    header = ("rows", "transformers, tokens/s", "its cache", "ours, tokens/s", "times as fast")
    body, told = [], []
    for row in found:
        ratio, count = Ratio(**row["ratio"]), row["rows"] * row["tokens"]
        body.append(
            (row["rows"], f"{count / ratio.theirs:.1f}", row["cache"], f"{count / ratio.ours:.1f}", ratio)
        )
        if row["rows"] in GOALS:
            told.append(
                f"{row['rows']} rows: {ratio.times:.2f} times as fast {goal(ratio.times, GOALS[row['rows']])}"
            )
    return [*rows_of(header, body), "", *(f"- {line}" for line in told)]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m unified.eval.bench.text", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rows", type=int, nargs="+", default=list(GOALS))
    parser.add_argument("--tokens", type=int, default=64, help="written in each row (64)")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"of interleaved runs ({PAIRS})")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if min(*options.rows, options.tokens, options.threads) < 1 or options.pairs < 2:
        parser.error("--rows, --tokens and --threads must be at least 1, --pairs at least 2")
    torch.set_num_threads(options.threads)
    found = measure(options.rows, options.tokens, options.pairs)
    print(json.dumps(found) if options.json else "\n".join(lines(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
