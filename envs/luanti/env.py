"""The game Luanti (formerly Minetest) as a `gymnasium.Env` with MineRL's action and observation names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from unified.envs.action_space import ActionSpace
from unified.envs.luanti.config import LuantiConfig
from unified.envs.luanti.installed import installed
from unified.envs.luanti.session import NoGround, Session
from unified.tokenizers.environment_action import HOTBAR, complete

TICKS_PER_SECOND = 20
SEEDS = 2**31  # seeds of worlds
PLACES = 24.0  # nodes from the middle of the world, the farthest start along x and z
WORLDS = 8  # maps that are drawn until one has dry ground
STARTS = 2  # tries to start the game: two that start at once may want the same port
UNSUPPORTED = ("pickItem", "swapHands")
_OPTIONS = frozenset(("terrain_seed",))


class LuantiEnv(gymnasium.Env):
    """A world of Luanti's own map generator (v7) and content (minetest_game), drawn by its own client.

    Settings are those of `LuantiConfig`, as one object or as keyword arguments. Actions: MineRL's dictionary,
    in which missing keys are not pressed; anything unknown or out of range is a ValueError before anything
    changes. `pickItem` and `swapHands` do nothing and are listed in `info["unsupported"]`. Observation:
    {"pov": [height, width, 3] uint8 RGB}. Rewards are 0; no episode ends by itself but by `max_steps`.

    Each reset starts the game anew on a new map of 80 x 80 x 80 nodes, some seconds; option "terrain_seed"
    chooses the map. Nothing moves between steps. Digging, drops, placing and the inventory are the game's
    own. What follows the wall clock there is replaced or left out: walking, falling and swimming are computed
    by our mod 20 times a second with the engine's speeds, every walkable node as a whole cube; liquids do
    not flow, sand does not fall, tiles are not animated, dropped items vanish, the hand does not swing.

    The same seed and actions give the same states, but not always the same pixels: the client tells nobody
    when it has drawn what changed, so that a frame can be a step late, or a changed node some steps.
    ImportError where the game is not installed, RuntimeError where it does not start or answer.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": TICKS_PER_SECOND}  # noqa: RUF012

    def __init__(
        self, config: LuantiConfig | None = None, *, render_mode: str | None = None, **settings: Any
    ) -> None:
        if config is not None and settings:
            raise ValueError("give either config or single settings, not both")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
        known = [field.name for field in fields(LuantiConfig)]
        if unknown := sorted(set(settings) - set(known)):
            raise ValueError(f"unknown setting {unknown[0]!r} of Luanti: it has {', '.join(known)}")
        self.config = config or LuantiConfig(**settings)
        installed()
        self.render_mode = render_mode
        self.action_space = ActionSpace()
        shape = (self.config.height, self.config.width, 3)
        self.observation_space = spaces.Dict({"pov": spaces.Box(0, 255, shape, dtype=np.uint8)})
        self._session: Session | None = None
        self._state: dict[str, Any] = {}
        self._ticks = 0
        self._ended = self._closed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts a new world. On a ValueError for bad options the running game stays; whatever fails later
        leaves none."""
        self._check_open()
        chosen = _terrain_seed(options)
        super().reset(seed=seed)
        self._end()
        self._ticks, self._ended = 0, False
        items = [f"{name} {count}" for name, count in self.config.start_items.items() if count]
        for worlds_left in reversed(range(WORLDS)):
            drawn = int(self.np_random.integers(SEEDS))
            x, z = self.np_random.uniform(-PLACES, PLACES, size=2).round(3).tolist()
            yaw = round(float(self.np_random.uniform(-180, 180)), 3)
            try:
                self._start(drawn if chosen is None else chosen, (x, z), yaw, items)
                break
            except NoGround:
                if chosen is not None or not worlds_left:
                    raise
        return self._observe(), self.info()

    def _start(self, terrain: int, place: tuple[float, float], yaw: float, items: list[str]) -> None:
        """Start the game on a map; what fails leaves none."""
        for tries_left in reversed(range(STARTS)):
            try:
                self._session = Session(terrain, self.config)
                self._state = self._session.begin(place, yaw, items)
                return
            except BaseException as error:
                self._end()
                if not isinstance(error, RuntimeError) or not tries_left:
                    raise

    def step(
        self, action: Mapping[str, Any]
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One tick. ValueError on a bad action and ResetNeeded after the end, both with nothing changed. A
        game that fails (RuntimeError) is ended, and needs a reset."""
        whole = complete(action)
        self._check_open()
        if self._session is None or self._ended:
            raise ResetNeeded("the episode has ended; call reset()" if self._ended else "call reset() first")
        pitch, yaw = (float(angle) for angle in whole.pop("camera"))
        pressed = {name: True for name, value in whole.items() if value}
        slots = [] if self._state["gui"] else [k for k, name in enumerate(HOTBAR) if name in pressed]
        changes = slots and slots[0] != self._state["slot"]
        try:
            self._state = self._session.tick(pressed, (pitch, yaw), slots[0] if changes else None)
        except BaseException:  # a tick that was cut short leaves the game in between
            self._end()
            raise
        self._ticks += 1
        terminated = "ESC" in pressed and self.config.escape_ends
        truncated = not terminated and 0 < self.config.max_steps <= self._ticks
        self._ended = terminated or truncated
        info = self.info()
        if unsupported := [name for name in UNSUPPORTED if name in pressed]:
            info["unsupported"] = unsupported
        return self._observe(), 0.0, terminated, truncated, info

    def info(self) -> dict[str, Any]:
        """Plain numbers under MineRL's names. Positions are the engine's, y up; yaw grows to the right from
        +z, pitch downwards. `looking_at`: the node in reach, or None. ResetNeeded before the first reset."""
        if not self._state:
            raise ResetNeeded("call reset() first")
        state = self._state
        place = {"xpos": state["x"], "ypos": state["y"], "zpos": state["z"]}
        return {
            "location_stats": {**place, "yaw": state["yaw"], "pitch": state["pitch"]},
            "hotbar": int(state["slot"]),
            "inventory": {name: int(count) for name, count in (state.get("inventory") or {}).items()},
            "isGuiOpen": int(state["gui"]),
            "on_ground": state["on_ground"],
            "in_water": state["in_water"],
            "collided": state["collided"],
            "looking_at": state.get("pointed"),
        }

    def render(self) -> np.ndarray | None:
        """The current frame for "rgb_array". ResetNeeded before the first reset."""
        self._check_open()
        if self._session is None or self._session.frame is None:
            raise ResetNeeded("call reset() before render()")
        return self._session.frame.copy() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """End the game; further steps and resets raise ClosedEnvironmentError."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedEnvironmentError("the environment is closed: make another one")

    def _observe(self) -> dict[str, np.ndarray]:
        assert self._session is not None
        assert self._session.frame is not None
        return {"pov": self._session.frame.copy()}


def _terrain_seed(options: Mapping[str, Any] | None) -> int | None:
    """The seed of the map that options ask for. ValueError for other options."""
    choice = options or {}
    if not isinstance(choice, Mapping) or not choice.keys() <= _OPTIONS:
        raise ValueError(f"the reset option is terrain_seed, got {choice!r:.80}")
    number = choice.get("terrain_seed")
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or not 0 <= number < SEEDS:
        raise ValueError(f"terrain_seed must be a whole number of 0 to 2^31 - 1, got {number!r:.60}")
    return int(number)
