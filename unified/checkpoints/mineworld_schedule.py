"""MineWorld's published decoding loops, call by call: which ids are run at which places of its cache.

Source: microsoft/mineworld (MIT); diagonal decoding is arXiv 2503.14070. One loop serves all: rows of codes
that each start when the one above holds `window` of them (window = columns: raster). The published cache has
a place for every position and is attended to up to each query's own, written or not. `Session`s do the same
by `mineworld_session`; this module is for what they do not (an action fed before its frame is finished, stale
caches), and to compare the calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unified.backbone.layer_pass import Pass
from unified.checkpoints.mineworld import MineWorldTransformer, causal
from unified.checkpoints.mineworld_config import ACTION_SLOTS
from unified.layout.attention import Seen

StandIn = Callable[[int, int], int]  # row of a frame, newest code of the row above -> what is fed


class PlacedCache:
    """Keys and values [1, G, L, D] of each layer, zeros at first, written at given places."""

    def __init__(self, model: MineWorldTransformer) -> None:
        sizes = model.config.sizes
        width = sizes.width // sizes.heads
        shape = (sizes.layers, 1, sizes.kv_heads, model.config.context, width)
        self.keys, self.values = torch.zeros(shape), torch.zeros(shape)

    def at(self, places: Tensor) -> PlacedAppend:
        return PlacedAppend(self, places)


class PlacedAppend:
    """One call, as a `Pass` needs it."""

    rows = slice(None)

    def __init__(self, cache: PlacedCache, places: Tensor) -> None:
        self.cache, self.places = cache, places
        length = cache.keys.shape[3]
        self.seen = Seen((torch.arange(length) <= places[:, None])[None, None])

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Seen]:
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        keys[:, :, self.places], values[:, :, self.places] = key, value
        return keys, values, self.seen


@dataclass
class Call:
    """`ids` [n] run at `places` [n], and the `logits` [n, ids] there."""

    ids: list[int]
    places: list[int]
    logits: Tensor


@dataclass
class Decoder:
    """Greedy decoding by the published loops. `calls`: all so far."""

    model: MineWorldTransformer
    cache: PlacedCache
    calls: list[Call] = field(default_factory=list)

    @torch.no_grad()
    def call(self, ids: Sequence[int], places: Sequence[int]) -> list[int]:
        """Run ids at places; the likeliest code after each."""
        where = torch.tensor(list(places))
        index, positions = causal(where)
        append: Any = self.cache.at(where)
        embeds = self.model.embed(torch.tensor([list(ids)]))
        states = self.model.hidden(embeds, Pass(index, positions, append=append))
        logits = self.model.transformer.lm_head(states)[0]
        self.calls.append(Call(list(ids), list(places), logits))
        return logits[:, : self.model.config.codes].argmax(dim=-1).tolist()

    def rows(self, start: int, first: int, window: int, stand_in: StandIn) -> list[int]:
        """The codes of one frame at places from `start` on, given its first. A row that holds all its codes
        leaves the calls, its last code not being run."""
        height, width = self.model.config.grid
        return self._rows([start + row * width for row in range(height)], first, window, stand_in, [])

    def _rows(
        self,
        starts: Sequence[int],
        first: int,
        window: int,
        stand_in: StandIn,
        actions: Sequence[Sequence[int]],
    ) -> list[int]:
        """`starts`: the place of the first code of each row, of one frame or of several, whose rows go on
        from frame to frame: a frame after the first then begins with the next of `actions`."""
        height, width = self.model.config.grid
        found = [[first], *([] for _ in starts[1:])]
        while len(found[-1]) < width:
            ids: list[int] = []
            places: list[int] = []
            takers: list[tuple[int, int]] = []  # rows, and how many ids each runs
            for row, start in enumerate(starts):
                codes = found[row]
                if codes and len(codes) < width:
                    fed, at = [codes[-1]], [start + len(codes) - 1]
                elif not codes and len(found[row - 1]) >= window and row % height:
                    fed, at = [stand_in(row % height, found[row - 1][-1])], [start - 1]
                elif not codes and len(found[row - 1]) >= window:
                    fed = list(actions[row // height - 1])
                    at = list(range(start - len(fed), start))
                else:
                    continue
                ids, places, takers = ids + fed, places + at, [*takers, (row, len(fed))]
            out, end = self.call(ids, places), 0
            for row, count in takers:
                end += count
                found[row].append(out[end - 1])
        return [code for codes in found for code in codes]

    def frames(
        self,
        prompt: Sequence[int],
        actions: Sequence[Sequence[int]],
        window: int,
        stand_in: StandIn | None = None,
    ) -> list[int]:
        """A frame for each of the `actions` after a prompt that ends with a frame, as the batch script has
        it. `stand_in` None: the codes of the prompt."""
        stand_in = stand_in or (lambda row, _: prompt[row * self.model.config.grid[1] - 1])
        ids, end = [*prompt, *actions[0]], len(prompt) + ACTION_SLOTS
        found: list[int] = []
        for number in range(len(actions)):
            first = self.call(ids, range(end - len(ids), end))[-1]
            found += self.rows(end, first, window, stand_in)
            if number + 1 < len(actions):
                ids = [found[-1], *actions[number + 1]]
                end += self.model.config.step
        return found

    def video(
        self,
        prompt: Sequence[int],
        actions: Sequence[Sequence[int]],
        window: int,
        stand_in: StandIn | None = None,
    ) -> list[int]:
        """The same with diagonals that go on over the borders of frames: an action is fed while the frame
        before it is unfinished, whose last code is never run."""
        config = self.model.config
        stand_in = stand_in or (lambda row, _: prompt[row * config.grid[1] - 1])
        start = len(prompt) + ACTION_SLOTS
        first = self.call([*prompt, *actions[0]], range(start))[-1]
        height, width = config.grid
        starts = [start + frame * config.step + row * width
                  for frame in range(len(actions)) for row in range(height)]  # fmt: skip
        return self._rows(starts, first, window, stand_in, actions[1:])

    def play(self, place: int, actions: Sequence[Sequence[int]], window: int) -> tuple[list[int], list[int]]:
        """A frame after each action from a free `place` on, as the interactive player has it: the codes, and
        the free place before and after every frame. The last code is run too."""
        found, places = [], [place]
        for action in actions:
            start = places[-1] + ACTION_SLOTS
            first = self.call(action, range(places[-1], start))[-1]
            codes = self.rows(start, first, window, lambda _, newest: newest)
            self.call(codes[-1:], [start + len(codes) - 1])
            found += codes
            places.append(start + len(codes))
        return found, places
