"""Pairs for condition contrastive alignment (`unified/objectives/cca.py`): every reply to its own prompt, and
to that of another sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from unified.train.pairs import Pair

from unified.stream.null_stream import null_stream
from unified.stream.vocabulary import Vocabulary


def mismatched(
    samples: Sequence[Sequence[int]], words: Vocabulary, *, null_ratio: float = 0.1, seed: int = 0
) -> list[Pair]:
    """One pair (matched, mismatched) for each sample of ids, a conversation whose last turn is the
    assistant's: that turn after everything before it, and after what stands before the next sample's, in an
    order drawn from the seed. A share `null_ratio` of the pairs is twice the sample without words. ValueError
    for fewer than two samples, one without a reply, or a ratio outside [0, 1]."""
    if len(samples) < 2:
        raise ValueError(f"mismatched conditions need at least two samples, got {len(samples)}")
    if not 0 <= null_ratio <= 1:
        raise ValueError(f"null_ratio must lie in [0, 1], got {null_ratio}")
    rng = np.random.default_rng(seed)
    parts = [_split(samples[number], words) for number in rng.permutation(len(samples))]
    null = rng.random(len(parts)) < null_ratio
    pairs: list[Pair] = []
    for (prompt, reply), (other, _), without in zip(parts, [*parts[1:], parts[0]], null, strict=True):
        matched = prompt + reply
        bare = null_stream(matched, words)
        pairs.append((bare, bare) if without else (matched, other + reply))
    return pairs


def _split(ids: Sequence[int], words: Vocabulary) -> tuple[list[int], list[int]]:
    """What stands before the last reply, and the reply."""
    ids = list(ids)
    if words.assistant not in ids:
        raise ValueError("a sample without a turn of the assistant has no reply to be matched")
    start = len(ids) - ids[::-1].index(words.assistant)
    return ids[:start], ids[start:]
