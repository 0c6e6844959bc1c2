"""Players of Luanti: they choose actions from what `LuantiEnv.info` says, without seeing pixels.

player = make_player("walk", seed=0)
action = player.act(env.unwrapped.info())
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

Action = dict[str, Any]
HELD = {"forward": 0.5, "back": 0.08, "left": 0.12, "right": 0.12, "jump": 0.12, "sneak": 0.05}
HELD |= {"sprint": 0.1, "attack": 0.3, "use": 0.08}
TAPPED = {"inventory": 0.004, "drop": 0.002}


class Player(Protocol):
    """Chooses one action per tick."""

    def act(self, info: Mapping[str, Any]) -> Action: ...


class RandomPlayer:
    """Holds random keys for random times and turns in random curves."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._left, self._keys = 0, Action()
        self._turn = np.zeros(2)

    def act(self, info: Mapping[str, Any]) -> Action:
        rng = self._rng
        if self._left == 0:
            self._left = int(rng.integers(4, 25))
            self._keys = {name: 1 for name, share in HELD.items() if rng.random() < share}
        self._left -= 1
        pitch = float(info["location_stats"]["pitch"])
        self._turn = 0.8 * self._turn + rng.normal(0.0, (1.5, 3.0)) - (0.01 * pitch, 0.0)
        action = {**self._keys, "camera": self._turn.astype(np.float32)}
        action |= {name: 1 for name, share in TAPPED.items() if rng.random() < share}
        if info["isGuiOpen"] and rng.random() < 0.2:
            action["inventory"] = 1
        if rng.random() < 0.02:
            action[f"hotbar.{int(rng.integers(1, 10))}"] = 1
        return action


class Walker:
    """Walks about, jumps up steps, turns away from walls, looks around, digs and builds."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._spell: Iterator[Action] = iter(())
        self._info: Mapping[str, Any] = {}

    def act(self, info: Mapping[str, Any]) -> Action:
        self._info = info
        while (action := next(self._spell, None)) is None:
            spells = (self._walk, self._walk, self._walk, self._look, self._dig, self._build)
            self._spell = spells[int(self._rng.integers(len(spells)))]()
        return action

    def _camera(self, pitch: float, turn: float = 0.0) -> np.ndarray:
        """A step of the camera towards a pitch, and a turn."""
        off = pitch - float(self._info["location_stats"]["pitch"])
        return np.array([np.clip(off, -8, 8), np.clip(turn, -12, 12)], dtype=np.float32)

    def _walk(self) -> Iterator[Action]:
        rng, blocked = self._rng, 0
        pitch, curve, sprint = rng.uniform(-5, 20), 0.0, int(rng.random() < 0.3)
        for _ in range(int(rng.integers(30, 90))):
            blocked = blocked + 1 if self._info["collided"] else 0
            curve = 0.9 * curve + rng.normal(0.0, 0.6)
            if blocked > 8:
                yield from self._turn_away()
                return
            wet = bool(self._info["in_water"])
            jump = int(blocked > 0 or wet or rng.random() < 0.02)
            yield {"forward": 1, "sprint": sprint, "jump": jump, "camera": self._camera(pitch, curve)}

    def _turn_away(self) -> Iterator[Action]:
        side = float(self._rng.choice((-1, 1)))
        for _ in range(int(self._rng.integers(6, 14))):
            yield {"camera": self._camera(5.0, 10 * side), "back": 1}

    def _look(self) -> Iterator[Action]:
        for _ in range(int(self._rng.integers(1, 4))):
            pitch, turn = self._rng.normal(5, 20), self._rng.normal(0, 5)
            for _ in range(int(self._rng.integers(6, 16))):
                yield {"camera": self._camera(float(np.clip(pitch, -50, 60)), turn)}

    def _dig(self) -> Iterator[Action]:
        pitch = float(self._rng.uniform(20, 60))
        yield {"hotbar.1": 1, "camera": self._camera(pitch)}
        for tick in range(int(self._rng.integers(20, 60))):
            yield {"attack": int(tick > 6), "camera": self._camera(pitch)}
            if tick > 10 and self._info["looking_at"] is None:
                return

    def _build(self) -> Iterator[Action]:
        pitch = float(self._rng.uniform(25, 50))
        yield {f"hotbar.{int(self._rng.integers(2, 4))}": 1, "camera": self._camera(pitch)}
        for tick in range(int(self._rng.integers(12, 36))):
            yield {"use": int(tick > 6 and tick % 6 == 0), "camera": self._camera(pitch, 2.0)}


PLAYERS: dict[str, Callable[[int], Player]] = {"walk": Walker, "random": RandomPlayer}


def make_player(name: str, seed: int) -> Player:
    """The player of a name. ValueError for an unknown one."""
    if name not in PLAYERS:
        raise ValueError(f"no player {name!r} of Luanti; there are {', '.join(PLAYERS)}")
    return PLAYERS[name](seed)
