"""Dreams: rows of frames predicted from actions, each started, stepped, saved and restored on its own.

A row reads at most `window` frames. When there are more, it forgets all that it has read and reads the latest
half of them again, from their codes. So a step costs the same however long an episode is, positions and ids
stay those of a short clip, and all that a row depends on is a handful of codes, actions and a seed: its state
is a few kilobytes, and restoring it repeats the same passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unified.apps.frame_writer import Drawn, Frames, FrameWriter, as_array
from unified.decoding.drawing import Choice
from unified.decoding.noise import PositionNoise
from unified.decoding.session import Session
from unified.orders import plan_for
from unified.orders.shapes import Shapes
from unified.tokenizers.environment_action import complete
from unified.tokenizers.images import Picture

WINDOW = 4  # frames that are read: the default model is trained on clips of five frames
Action = Mapping[str, Any]
Codes = np.ndarray  # int32 [T], of latents int64


@dataclass(frozen=True)
class DreamState:
    """All that the next frames of a row depend on. `read`: the codes of the frames that were read at once,
    and `taken`: the ids of the actions between them. `written`: since then, the ids of each action and the
    codes drawn after it. `seed` and `offset`: of the noise. `vectors`: embeddings that were carried over to
    the latest frame of `read`."""

    read: tuple[Codes, ...]
    taken: tuple[tuple[int, ...], ...]
    seed: int
    offset: int = 0
    written: tuple[tuple[tuple[int, ...], Codes], ...] = ()
    vectors: Tensor | None = None

    @property
    def length(self) -> int:
        """Frames that are read before the next one."""
        return len(self.read) + len(self.written)


class Dream:
    """`rows` rows of frames of the map sizes `shapes`, drawn by `writer`; at most `window` frames are read.
    Row b is used once it is started (`start` or `load`)."""

    def __init__(self, writer: FrameWriter, shapes: Shapes, *, rows: int = 1, window: int = WINDOW) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1 frame, got {window}")
        self.writer, self.processor, self.shapes, self.window = writer, writer.processor, shapes, window
        self.plan = plan_for(self.processor.order, shapes)
        self.noise = PositionNoise([0] * rows)
        self.session = Session(writer.model, rows=rows, noise=self.noise)
        self.states: list[DreamState | None] = [None] * rows

    def start(
        self,
        rows: Sequence[int],
        history: Sequence[Sequence[Picture]],
        taken: Sequence[Sequence[Action]],
        seeds: Sequence[int],
    ) -> None:
        """Start some rows from known frames with the actions between them, one fewer; the latest `window`
        frames are read. ValueError, with nothing changed, for no frame, another number of actions, frames
        of another size, and malformed actions."""
        states = []
        for frames, actions, seed in zip(history, taken, seeds, strict=True):
            if not len(frames):
                raise ValueError("imagining needs at least one frame to start from")
            if len(frames) != len(actions) + 1:
                raise ValueError("n known frames have n - 1 actions between them")
            read = tuple(self._codes(frame) for frame in frames[-self.window :])
            ids = tuple(tuple(self.processor.action_ids(complete(action))) for action in actions)
            states.append(DreamState(read, ids[len(ids) + 1 - len(read) :], seed))
        self.load(rows, states)

    def load(self, rows: Sequence[int], states: Sequence[DreamState]) -> None:
        """Restore states that rows of dreams of the same model and sizes had."""
        for state in states:
            if any(len(codes) != self._read_length for codes in state.read):
                raise ValueError("the state belongs to frames of another size, or to another model")
        bare = [replace(state, written=()) for state in states]
        for row, state in zip(rows, bare, strict=True):
            self.states[row] = state
            self.noise.reseed(row, state.seed)
        self._read(rows)
        for step in range(max(len(state.written) for state in states) if states else 0):
            longer = [pair for pair in zip(rows, states, strict=True) if step < len(pair[1].written)]
            actions = {row: state.written[step][0] for row, state in longer}
            self._draw(actions, {row: state.written[step][1] for row, state in longer})

    @torch.no_grad()
    def step(self, actions: Sequence[Action | None], frames: Mapping[int, Picture] | None = None) -> Frames:
        """The next frames of the rows that have an action. `frames`: by row, known frames to be written in
        place of drawn ones (teacher forcing), which are scored as drawn ones are. ValueError for malformed
        actions, frames of another size, or a row that was not started, with nothing changed."""
        if len(actions) != len(self.states):
            raise ValueError(f"{len(self.states)} rows need as many actions, got {len(actions)}")
        ids = {
            row: tuple(self.processor.action_ids(complete(action)))
            for row, action in enumerate(actions)
            if action is not None
        }
        for row in ids:
            if self.states[row] is None:
                raise ValueError(f"row {row} was not started")
        forced = {row: self._codes(frame, drawn=True) for row, frame in (frames or {}).items()}
        full = [row for row in ids if self.state(row).length > self.window]
        for row in full:
            self.states[row] = self._latest_half(row)
        self._read(full)
        return self.writer.show(self._draw(ids, forced))

    def state(self, row: int) -> DreamState:
        """The state of a row, for `load`. ValueError before it was started."""
        state = self.states[row]
        if state is None:
            raise ValueError(f"row {row} was not started")
        return state

    def _latest_half(self, row: int) -> DreamState:
        """The state of a row that has forgotten all but the latest half of the window."""
        state, session_row = self.state(row), self.session.rows[row]
        kept = max(1, self.window // 2)
        read = [*state.read, *(codes[self.plan.read.numpy()] for _, codes in state.written)]
        taken = [*state.taken, *(ids for ids, _ in state.written)]
        reference = session_row.reference
        return DreamState(
            read=tuple(read[-kept:]),
            taken=tuple(taken[len(taken) + 1 - kept :]),
            seed=state.seed,
            offset=session_row.place,
            vectors=reference.vectors if reference is not None else None,
        )

    def _read(self, rows: Sequence[int]) -> None:
        """Let rows forget everything and read the frames of their states."""
        lists: list[list[int]] = [[] for _ in self.states]
        for row in rows:
            state = self.state(row)
            self.session.restart(row, state.offset)
            if len(state.read) > 1:
                lists[row] = self._told(state)
        if any(lists):
            self.session.feed(lists)

    def _told(self, state: DreamState) -> list[int]:
        """Ids of the frames that a state has read, with the actions between them."""
        words = self.processor.vocabulary
        ids = self._opening(state.read[0], state.taken[0])
        for number, codes in enumerate(state.read[1:], start=1):
            ids += self.processor.stream.content([self._item(codes)])
            if number < len(state.taken):
                ids += [words.end, *self._turn(state.taken[number]), *words.opening("assistant")]
        return ids

    def _draw(
        self, actions: Mapping[int, tuple[int, ...]], forced: Mapping[int, Codes] | None = None
    ) -> Drawn:
        """Draw a frame in some rows after their actions; `forced`: codes to be written whatever is drawn."""
        words = self.processor.vocabulary
        lists: list[list[int]] = [[] for _ in self.states]
        for row, ids in actions.items():
            state = self.state(row)
            if state.length == 1:
                lists[row] = self._opening(state.read[0], ids)
            else:
                lists[row] = [words.end, *self._turn(ids), *words.opening("assistant")]
        self.session.feed(lists, defer=True)
        for row in actions:
            state, session_row = self.state(row), self.session.rows[row]
            if not state.written and state.vectors is not None and session_row.reference is not None:
                session_row.reference = session_row.reference._replace(vectors=state.vectors)
        active = [row in actions for row in range(len(self.states))]
        drawn = self.writer.draw(self.session, self.shapes, active, self._forcing(forced) if forced else None)
        for row, ids in actions.items():
            codes = as_array(drawn.drawing.codes[row], self.session.vocabulary.visual)
            state = self.state(row)
            self.states[row] = replace(state, written=(*state.written, (ids, codes)))
        return drawn

    def _forcing(self, forced: Mapping[int, Codes]) -> Any:
        """A hook that replaces what is drawn by given codes [T], by row."""

        def force(choice: Choice) -> Choice:
            for row, codes in forced.items():
                given = torch.from_numpy(codes.astype(np.int64))[choice.slots.cpu()]
                choice.codes[row] = given.to(choice.codes.device)
            return choice

        return force

    def _opening(self, codes: Codes, action: Sequence[int]) -> list[int]:
        content = [self._item(codes), {"type": "action", "ids": list(action)}]
        return self.processor.encode([{"role": "user", "content": content}], prompt=True)

    def _turn(self, action: Sequence[int]) -> list[int]:
        content = [{"type": "action", "ids": list(action)}]
        return self.processor.turn({"role": "user", "content": content})

    @property
    def _read_length(self) -> int:
        return len(self.plan.read)

    def _item(self, codes: Codes) -> dict[str, Any]:
        shapes = [list(shape) for shape in self.plan.read_shapes]
        return {"type": "image", "codes": codes.tolist(), "shapes": shapes}

    def _codes(self, frame: Picture, *, drawn: bool = False) -> Codes:
        """The codes of a frame as it is read, or as it is `drawn`."""
        item = self.processor.image_item(frame, drawn=drawn, frame=drawn)
        expected = self.plan.shapes if drawn else self.plan.read_shapes
        if [tuple(shape) for shape in item["shapes"]] != list(expected):
            raise ValueError(f"a frame has maps {item['shapes']}, these dreams have {list(expected)}")
        return as_array(torch.tensor(item["codes"]), self.session.vocabulary.visual)
