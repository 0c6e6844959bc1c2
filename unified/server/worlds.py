"""Imagined worlds that clients step: each belongs to the client that made it, and ends after an idle time.

All methods run on the thread that owns the model, so a world needs no lock.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unified.apps.dream import Dream
from unified.command import told
from unified.decoding.sampling import Sampler
from unified.server.errors import ApiError
from unified.server.limits import Limits
from unified.server.schema import MOST_SEED


@dataclass
class World:
    """`frame`: the latest, uint8 [H, W, 3]; `steps` since the first; `used`: when it was last asked for."""

    number: str
    client: str
    dream: Dream
    frame: np.ndarray
    sampler: Sampler
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
        world = self.find(client, number)
        try:
            frames = world.dream.step([action])
        except ValueError as error:
            raise ApiError(400, told(error), param="actions") from None
        world.frame, world.steps = frames.images[0], world.steps + 1
        return world

    def fork(self, client: str, number: str, seed: int | None) -> World:
        """Another world that goes on from here: after the same actions with the same frames or, with a seed
        and a temperature, with samples of its own."""
        world = self.find(client, number)
        self._check_room(client)
        state = world.dream.state(0)
        dream = self._dream(world.frame, world.sampler)
        dream.load([0], [state if seed is None else replace(state, seed=seed % MOST_SEED)])
        fork = World(_number(), client, dream, world.frame, world.sampler, world.steps)
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

    def _dream(self, frame: np.ndarray, sampler: Sampler) -> Dream:
        dream: Dream = self.assistant.dream(frame.shape[:2], sampler=sampler)
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
