"""Texts of Infinity: features of a text encoder as placeholders of a stream, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from unified.checkpoints.infinity_layers import EPS, TextPool
from unified.checkpoints.linear import Linear, LinearGELU
from unified.stream.vocabulary import Vocabulary

PROMPT, NEGATIVE, NULL = "text", "negative", "null"  # names of the placeholders


class TextStream:
    """Texts in the ids of a vocabulary that has these placeholders."""

    names = (PROMPT, NEGATIVE, NULL)

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    def prompt(self, length: int, negative: int = 0) -> list[int]:
        """A user's turn with a text of `length` features, before it one of `negative` to lead away from."""
        words = self.vocabulary
        if length < 1 or negative < 0:
            raise ValueError(f"a text needs at least one feature vector, got {length} and {negative}")
        texts = [token for name, count in ((NEGATIVE, negative), (PROMPT, length)) if count
                 for token in (words.read, *[words.placeholder(name)] * count, words.close)]  # fmt: skip
        return [words.begin, words.user, *texts, words.end, words.assistant]

    def rows(self, ids: Tensor, values: Mapping[str, Tensor]) -> list[Tensor] | None:
        """By row of ids [R, n], the features [k, Ct] of its text; without one, of its negative text; without
        that, the first k learnt ones. `values`: by name, [N, Ct], row by row, the learnt ones once.
        None if no row has any; ValueError if only some have."""
        counts = {name: (ids == self.vocabulary.placeholder(name)).sum(dim=1).tolist() for name in self.names}
        if not any(map(sum, counts.values())):
            return None
        given = {name: _split(name, values, counts[name]) for name in (PROMPT, NEGATIVE)}
        found = []
        for row in range(len(ids)):
            null = values[NULL][: _at_most(counts[NULL][row], values[NULL])]
            texts = (given[PROMPT][row], given[NEGATIVE][row], null)
            text = next((text for text in texts if len(text)), None)
            if text is None:
                raise ValueError("the rows of a text-to-image session must be given their texts together")
            found.append(text)
        return found


def _split(name: str, values: Mapping[str, Tensor], counts: list[int]) -> Sequence[Tensor]:
    given = values.get(name)
    if given is None and not sum(counts):
        return [torch.empty(0)] * len(counts)
    if given is None or len(given) != sum(counts):
        has = 0 if given is None else len(given)
        raise ValueError(f"the ids have {sum(counts)} placeholders of {name}, but there are {has} features")
    return given.split(counts)


def _at_most(count: int, learnt: Tensor) -> int:
    if count > len(learnt):
        raise ValueError(f"a text of {count} features is longer than the {len(learnt)} learnt for no text")
    return count


class TextEncoding(nn.Module):
    """Features of texts -> a pooled vector each, and what cross-attention reads. `cfg_uncond` [length, Ct]
    are the learnt features of no text."""

    def __init__(self, channels: int, length: int, width: int, heads: int) -> None:
        super().__init__()
        self.cfg_uncond = nn.Parameter(torch.zeros(length, channels))
        self.text_norm = nn.RMSNorm(channels, eps=EPS)
        self.text_proj_for_sos = nn.ModuleDict({"ca": TextPool(channels, width, heads)})
        self.text_proj_for_ca = nn.ModuleDict({"0": LinearGELU(channels, width), "2": Linear(width, width)})

    def forward(self, texts: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
        """texts: R of [n, Ct] -> pooled [R, D], memory [R, T, D], and which of it [R, 1, 1, T] is a row's own
        (None: all)."""
        (longest, channels), dtype = self.cfg_uncond.shape, self.cfg_uncond.dtype
        for text in texts:
            if text.ndim != 2 or not 1 <= len(text) <= longest or text.shape[1] != channels:
                raise ValueError(
                    f"a text has features [n, {channels}] with n from 1 to {longest}, got {tuple(text.shape)}"
                )
        padded = pad_sequence([text.to(self.cfg_uncond.device, dtype) for text in texts], batch_first=True)
        mask = _own([len(text) for text in texts], padded)
        normed = self.text_norm(padded)
        memory = self.text_proj_for_ca["2"](self.text_proj_for_ca["0"](normed))
        return self.text_proj_for_sos["ca"](normed, mask), memory, mask

    def dropped(self, texts: Sequence[Tensor], rate: float, generator: torch.Generator) -> list[Tensor]:
        """For training with guidance: each text becomes the learnt one of its length with probability
        `rate`."""
        drawn = torch.rand(len(texts), generator=generator, device=generator.device).tolist()
        return [
            self.cfg_uncond[: len(text)] if draw < rate else text
            for text, draw in zip(texts, drawn, strict=True)
        ]


def _own(lengths: list[int], padded: Tensor) -> Tensor | None:
    if min(lengths) == max(lengths):
        return None
    places = torch.arange(padded.shape[1], device=padded.device)
    return (places < torch.tensor(lengths, device=padded.device)[:, None])[:, None, None]
