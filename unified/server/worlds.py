"""Imagined worlds that clients step: each belongs to the client that made it, and ends after an idle time.

All methods run on the thread that owns the model, so a world needs no lock.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unified.apps.dream import Dream
from unified.command import told
from unified.decoding.sampling import Sampler
from unified.server.errors import ApiError
from unified.server.limits import Limits
from unified.server.schema import MOST_SEED
from unified.tokenizers.environment_action import complete


@dataclass
class World:
    """`dream` and `row`: where its frames are drawn; `frame`: the latest, uint8 [H, W, 3]; `steps` since the
    first; `used`: when it was last asked for."""

    number: str
    client: str
    dream: Dream
    frame: np.ndarray
    sampler: Sampler
    row: int = 0
    steps: int = 0
    used: float = 0.0


class Worlds:
    """`clock` gives seconds. `ApiError` 404 for a world that is not there, has ended, or is another client's:
    the answer does not tell which; 429 for more worlds than `limits` allow."""

    def __init__(self, assistant: Any, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.assistant, self.limits, self.clock = assistant, limits, clock
        self._worlds: dict[str, World] = {}

    def __len__(self) -> int:
        return len(self._worlds)

    def create(self, client: str, picture: np.ndarray, seed: int, temperature: float) -> World:
        """A world that starts from a frame uint8 [H, W, 3]. Temperature 0 is greedy decoding."""
        self._check_room(client)
        frame, sampler = self.assistant.picture(picture), Sampler(temperature=temperature)
        dream = self._dream(frame, sampler)
        dream.start([0], [[frame]], [[]], [seed % MOST_SEED])
        return self._kept(World(_number(), client, dream, frame, sampler))

    def step(self, client: str, number: str, action: Mapping[str, Any]) -> World:
        """The world after an action in MineRL's form. `ApiError` 400 for a malformed one, nothing changed."""
        return self.step_all(client, {number: action})[0]

    def step_all(self, client: str, actions: Mapping[str, Mapping[str, Any]]) -> list[World]:
        """Worlds after one action each (by world), in that order. Those of one size and temperature are rows
        of the same passes. `ApiError` 400 for a malformed action and 404 for a world that is not there,
        nothing changed."""
        worlds = [self.find(client, number) for number in actions]
        for action in actions.values():
            try:
                self.assistant.processor.action_ids(complete(action))
            except ValueError as error:
                raise ApiError(400, told(error), param="actions") from None
        kinds: dict[Any, list[World]] = {}
        for world in worlds:
            kinds.setdefault((world.frame.shape, world.sampler), []).append(world)
        for together in kinds.values():
            self._step(together, actions)
        return worlds

    def _step(self, worlds: Sequence[World], actions: Mapping[str, Mapping[str, Any]]) -> None:
        """One action in each of some worlds of one kind."""
        dream = self._seated(worlds)
        given: list[Mapping[str, Any] | None] = [None] * len(dream.states)
        for world in worlds:
            given[world.row] = actions[world.number]
        frames = dream.step(given)
        for world, image in zip(sorted(worlds, key=lambda one: one.row), frames.images, strict=True):
            world.frame, world.steps = image, world.steps + 1

    def _seated(self, worlds: Sequence[World]) -> Dream:
        """One dream whose rows all these worlds are. It is the one that most of them are rows of, if it has
        free rows for the others and at least half of its rows are asked for; else a new one."""
        counts = Counter(id(world.dream) for world in worlds)
        dream = max((world.dream for world in worlds), key=lambda one: counts[id(one)])
        taken = {world.row for world in self._worlds.values() if world.dream is dream}
        free = [row for row in range(len(dream.states)) if row not in taken]
        new = [world for world in worlds if world.dream is not dream]
        if len(free) < len(new) or 2 * len(worlds) < len(dream.states):
            dream = self._dream(worlds[0].frame, worlds[0].sampler, len(worlds))
            new, free = list(worlds), list(range(len(worlds)))
        if new:
            rows = free[: len(new)]
            dream.load(rows, [world.dream.state(world.row) for world in new])
            for world, row in zip(new, rows, strict=True):
                world.dream, world.row = dream, row
        return dream

    def fork(self, client: str, number: str, seed: int | None) -> World:
        """Another world that goes on from here: after the same actions with the same frames or, with a seed
        and a temperature, with samples of its own."""
        world = self.find(client, number)
        self._check_room(client)
        state = world.dream.state(world.row)
        dream = self._dream(world.frame, world.sampler)
        dream.load([0], [state if seed is None else replace(state, seed=seed % MOST_SEED)])
        fork = World(_number(), client, dream, world.frame, world.sampler, steps=world.steps)
        return self._kept(fork)

    def find(self, client: str, number: str) -> World:
        self.end_idle()
        world = self._worlds.get(number)
        if world is None or world.client != client:
            raise ApiError(
                404, "there is no such world: it was closed, or idle too long", code="no_such_world"
            )
        world.used = self.clock()
        return world

    def close(self, client: str, number: str) -> None:
        self.find(client, number)
        del self._worlds[number]

    def end_idle(self) -> None:
        """End the worlds that nobody has asked for since the idle limit."""
        oldest = self.clock() - self.limits.idle
        for number in [one.number for one in self._worlds.values() if one.used < oldest]:
            del self._worlds[number]

    def _kept(self, world: World) -> World:
        world.used = self.clock()
        self._worlds[world.number] = world
        return world

    def _dream(self, frame: np.ndarray, sampler: Sampler, rows: int = 1) -> Dream:
        dream: Dream = self.assistant.dream(frame.shape[:2], rows=rows, sampler=sampler)
        return dream

    def _check_room(self, client: str) -> None:
        self.end_idle()
        own = sum(world.client == client for world in self._worlds.values())
        if own >= self.limits.worlds:
            message = f"a client has at most {self.limits.worlds} worlds, forks included: close one"
            raise ApiError(429, message, code="too_many_worlds", headers={"retry-after": "60"})
        if len(self) >= self.limits.all_worlds:
            raise ApiError(429, "the server has no room for another world", headers={"retry-after": "60"})


def _number() -> str:
    """A name that cannot be guessed."""
    return secrets.token_hex(16)
