"""Rounds of speculative sampling over the steps of an image, row by row (`speculative.py` names their
steps)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from unified.decoding.context import Chunk
from unified.decoding.drawing import Choice, WriterState
from unified.decoding.image import ImageRun
from unified.decoding.strategies.drafts import Draft
from unified.decoding.strategies.feature_draft import DraftChunk
from unified.decoding.strategies.lane import Lane
from unified.decoding.strategies.rejection import (
    DRAFT,
    AcceptanceRule,
    Verdict,
    draw,
    exact,
    logits_of,
    probabilities,
)
from unified.decoding.strategies.rollback import Mark
from unified.heads.distribution import Distribution
from unified.layout.attention import PADDING


@dataclass(frozen=True)
class Decided:
    """A step of one row: `codes` [1, n], `log_probs` [1, n], and what was `predicted` of it."""

    codes: Tensor
    log_probs: Tensor
    predicted: Distribution


class ImageRounds:
    """All rows that write."""

    def __init__(self, run: ImageRun, draft: Draft, length: int, rule: AcceptanceRule = exact) -> None:
        self.run, self.draft, self.length, self.rule = run, draft, length, rule
        self.lanes = [Lane(run, row) for row, active in enumerate(run.request.active) if active]
        self.decided: list[dict[int, Decided]] = [{} for _ in run.request.plan.steps]  # of a step, by row
        self.yielded = 0

    @property
    def open(self) -> bool:
        return any(lane.open for lane in self.lanes)

    def round(self) -> None:
        """Draft, verify, accept, roll back. The first step is run with what comes before the image, and
        nothing is drafted before that."""
        lanes = [lane for lane in self.lanes if lane.open]
        mark = Mark(self.run.context)
        for lane in lanes:
            lane.begin()
        if self.run.begun:
            self._draft(lanes)
            mark.restore()
        for lane in lanes:
            if len(lane.drafted) == len(lane.inputs):  # one more step, which is drawn from p
                lane.feed()
        drafted = any(lane.drafted for lane in lanes)
        kept = self._accept(lanes, self._verify(lanes))
        if drafted:
            mark.restore(kept)

    # Draft --------------------------------------------------------------------------------------------------

    def _draft(self, lanes: list[Lane]) -> None:
        """Up to `length` steps of each row, but the image's last, one after the other."""
        run, session = self.run, self.run.session
        for number in range(self.length):
            going = [lane for lane in lanes if lane.step + number + 1 < lane.steps]
            for lane in going:
                lane.feed()
            if not going:
                return
            step = min(lane.step for lane in going) + number
            chunk = self._chunk(going, number)
            chunk = DraftChunk(**vars(chunk), history=partial(_history, going))
            hidden = self.draft.image(session, chunk, run.rows, run.request.plan, step)
            if hidden is None:
                return
            laws, places = {}, {}
            for lane in going:
                states = [found[lane.rows, : lane.inputs[number].shape[1]] for found in hidden]
                lane.guessed.append((lane.inputs[number], states[0]))
                laws[lane.row] = self.law(self.predicted(lane, lane.draft, number, states, None))
                places[lane.row] = self.places(lane, number)
            symbols = draw(self.spread(laws), session.noise, self.spread(places), DRAFT)
            for lane in going:
                width = laws[lane.row].shape[1]
                lane.propose(laws[lane.row], symbols[lane.row : lane.row + 1, :width])

    # Verify and accept --------------------------------------------------------------------------------------

    def _verify(self, lanes: list[Lane]) -> tuple[list[Tensor], list[Tensor] | None]:
        """One pass over all steps of the round: for each head hidden states [R, n, D], and at the first pass
        those of the position before. A pass that runs different steps names none."""
        steps = {lane.step + number for lane in lanes for number in range(len(lane.inputs))}
        ran = self.run.run(self._chunk(lanes), step=steps.pop() if len(steps) == 1 else -1)
        return ran.states, ran.last

    def _accept(self, lanes: list[Lane], found: tuple[list[Tensor], list[Tensor] | None]) -> np.ndarray:
        """Decide steps, one after the other, up to the first of each row of which anything was rejected, or
        the one that was not drafted. [R]: how many positions of each row that takes."""
        kept, stats = np.zeros(self.run.context.cache.rows, dtype=np.int64), self.run.session.stats
        going, number = lanes, 0
        while going:
            verdict, laws, predicted = self._judge(going, number, *found)
            for lane in going:
                self._commit(lane, number, verdict, laws[lane.row], predicted[lane.row])
                kept[lane.rows] = len(lane.slots(number + 1))
                width, drafted = laws[lane.row].shape[1], number < len(lane.drafted)
                lane.agreed += drafted and bool(verdict.accepted[lane.row, :width].all())
            number += 1
            going = [lane for lane in going if lane.agreed == number]
        for lane in lanes:
            stats.drafted[lane.row] += len(lane.drafted)
            stats.accepted[lane.row] += lane.agreed
            lane.step += min(lane.agreed + 1, len(lane.inputs))
        return kept

    def _judge(
        self, lanes: list[Lane], number: int, states: list[Tensor], before: list[Tensor] | None
    ) -> tuple[Verdict, dict[int, Tensor], dict[int, Distribution]]:
        """What becomes of a step of the round: symbols of all rows, distributions p by row, and what was
        predicted by row."""
        predicted, laws, drafted, guesses, places = {}, {}, {}, {}, {}
        for lane in lanes:
            lane.writer.inputs(lane.step + number)  # what `predict` is about
            last = None if before is None else [found[lane.rows] for found in before]
            own = lane.states(states, number)
            lane.past.append((lane.inputs[number], own[0]))
            predicted[lane.row] = self.predicted(lane, lane.writer, number, own, last)
            laws[lane.row] = self.law(predicted[lane.row])
            places[lane.row] = self.places(lane, number)
            if number < len(lane.drafted):
                drafted[lane.row], guesses[lane.row] = lane.drafted[number], lane.laws[number]
        noise, at = self.run.session.noise, self.spread(places)
        p = self.spread(laws)
        symbols = draw(p, noise, at)
        accepted = torch.ones_like(symbols, dtype=torch.bool)
        if drafted:
            width = p.shape[1]
            verdict = self.rule(
                p,
                self.spread(guesses, width),
                self.spread(drafted, width),
                noise,
                at,
                self.greedy(predicted, width),
            )
            rows = list(drafted)
            symbols[rows], accepted[rows] = verdict.symbols[rows], verdict.accepted[rows]
        return Verdict(symbols, accepted), laws, predicted

    def _commit(
        self, lane: Lane, number: int, verdict: Verdict, law: Tensor, predicted: Distribution
    ) -> None:
        run, step = self.run, lane.step + number
        symbols = verdict.symbols[lane.row : lane.row + 1, : law.shape[1]]
        codes = run.session.model.head.to_codes(symbols)
        log_probs = law.gather(-1, symbols[..., None])[..., 0].log().sum(dim=-1)
        lane.writer.commit(step, codes)
        self.decided[step][lane.row] = Decided(codes, log_probs, predicted)
        slots = run.request.plan.steps[step].decide
        run.drawing.codes[lane.row, slots], run.drawing.log_probs[lane.row, slots] = codes[0], log_probs[0]

    # What is shared -----------------------------------------------------------------------------------------

    def predicted(
        self,
        lane: Lane,
        writer: WriterState,
        number: int,
        states: list[Tensor],
        before: list[Tensor] | None,
    ) -> Distribution:
        return self.run.predicted(writer, lane.step + number, states, 1, before)

    def law(self, predicted: Distribution) -> Tensor:
        """[1, n, S, V]: what the sampler draws from."""
        logits = logits_of(self.run.chosen_from(predicted))
        return probabilities(self.run.request.sampler, logits)

    def greedy(self, predicted: Mapping[int, Distribution], width: int) -> Tensor | None:
        """At temperature 0 the logits [B, width, S, V] of which the likeliest values are taken, else None."""
        if self.run.request.sampler.temperature:
            return None
        logits = {row: logits_of(self.run.chosen_from(found)) for row, found in predicted.items()}
        return self.spread(logits, width)

    def places(self, lane: Lane, number: int) -> Tensor:
        return self.run.places(lane.step + number, slice(lane.row, lane.row + 1))

    def spread(self, parts: Mapping[int, Tensor], width: int = 0) -> Tensor:
        """Tensors [1, n, ...] by row as one [B, `width` or the largest n, ...], filled up with ones."""
        first = next(iter(parts.values()))
        width = width or max(part.shape[1] for part in parts.values())
        whole = first.new_ones(len(self.run.session.rows), width, *first.shape[2:])
        for row, part in parts.items():
            whole[row, : part.shape[1]] = part[0]
        return whole

    def _chunk(self, lanes: list[Lane], number: int | None = None) -> Chunk:
        """The positions of all steps of the round, or of the one of this number, each row's own."""
        slots, embeds = {}, {}
        for lane in lanes:
            start = len(lane.slots(number)) if number else 0
            slots[lane.row] = lane.slots(len(lane.inputs))[start:]
            embeds[lane.row] = torch.cat(lane.inputs if number is None else lane.inputs[number:], dim=1)
        return self.chunk(lanes, slots, embeds)

    def chunk(self, lanes: list[Lane], slots: Mapping[int, Tensor], embeds: Mapping[int, Tensor]) -> Chunk:
        """By row, positions `slots` [n] of the image, which are fed `embeds` [branches, n, D]."""
        run, first = self.run, next(iter(embeds.values()))
        places = {row: len(run.header) + found for row, found in slots.items()}
        counts = np.zeros(run.count, dtype=np.int64)
        taken = torch.zeros(run.count, max(map(len, places.values())), dtype=torch.long)
        inputs = first.new_zeros(*taken.shape, first.shape[2])
        for lane in lanes:
            count = len(places[lane.row])
            counts[lane.rows], taken[lane.rows, :count] = count, places[lane.row]
            inputs[lane.rows, :count] = embeds[lane.row]
        index = run.layout.index.map(lambda field: field.gather(1, taken))
        outside = torch.arange(taken.shape[1]) >= torch.from_numpy(counts)[:, None]
        index = replace(index, sample=index.sample.masked_fill(outside, PADDING))
        positions = run.layout.positions.gather(2, taken.expand(3, -1, -1))
        return Chunk(inputs, index, positions.to(inputs.device), counts)

    # Steps as a whole ---------------------------------------------------------------------------------------

    def finished(self) -> Iterator[Choice]:
        """The steps that all rows have decided since."""
        while self.yielded < min(lane.step for lane in self.lanes):
            self.yielded += 1
            yield self._choice(self.yielded - 1)

    def _choice(self, step: int) -> Choice:
        """One step of all rows; those that do not write repeat the first that does."""
        run, found = self.run, self.decided[step]
        slots = run.request.plan.steps[step].decide
        some = next(iter(found.values())).predicted
        by_row = [found[row].predicted if row in found else some for row in range(len(run.session.rows))]
        predicted = replace(some, logits=torch.cat([logits_of(one) for one in by_row]))  # type: ignore[type-var]
        self.decided[step] = {}
        codes, log_probs = run.drawing.codes[:, slots], run.drawing.log_probs[:, slots]
        sampler, noise = run.request.sampler, run.session.noise
        return Choice(run.request.plan, step, codes, log_probs, predicted, sampler, noise)


def _history(lanes: Sequence[Lane]) -> list[tuple[list[int], Tensor, Tensor]]:
    """`DraftChunk.history`."""
    return [lane.history for lane in lanes]
