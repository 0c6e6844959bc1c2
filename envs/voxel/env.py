"""The voxel world as a `gymnasium.Env` with MineRL's action and observation names, 20 steps a second."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from unified.envs.action_space import ActionSpace
from unified.envs.voxel import physics as p
from unified.envs.voxel.actions import Controls, parse_action
from unified.envs.voxel.blocks import BREAK_TICKS
from unified.envs.voxel.config import VoxelConfig
from unified.envs.voxel.hud import draw_hud
from unified.envs.voxel.inventory import Inventory
from unified.envs.voxel.render import View, draw_world
from unified.envs.voxel.simulation import Simulation
from unified.envs.voxel.spawn import spawn_body
from unified.envs.voxel.state import restore, snapshot
from unified.envs.voxel.tasks import Task, make_task, task_from_dict, task_to_dict
from unified.envs.voxel.window import Window
from unified.envs.voxel.world import World

TICKS_PER_SECOND = 20
Begun = tuple[Simulation, Task, bool]  # a game, its task, and whether the episode has ended
_OPTIONS = frozenset(("state", "terrain_seed"))


class VoxelEnv(gymnasium.Env):
    """A first-person world of blocks.

    Settings are those of `VoxelConfig`, as one object or as keyword arguments. Actions: MineRL's dictionary,
    in which missing keys are not pressed; anything unknown or out of range is a ValueError before anything
    changes. Observation: {"pov": [height, width, 3] uint8 RGB}. The same seed gives the same bytes.

    `reset(options=...)` takes "terrain_seed" (whole number from 0) or "state" (from `get_state`).
    `inventory` opens and closes a panel; while it is open, camera and other keys do not act. ESC closes it,
    and ends the episode if `escape_ends`. After the end, `step` raises ResetNeeded, as MineRL raises.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": TICKS_PER_SECOND}  # noqa: RUF012

    def __init__(
        self, config: VoxelConfig | None = None, *, render_mode: str | None = None, **settings: Any
    ) -> None:
        if config is not None and settings:
            raise ValueError("give either config or single settings, not both")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be None, 'human' or 'rgb_array', got {render_mode!r}")
        try:
            self.config = config or VoxelConfig(**settings)
        except TypeError as error:
            raise ValueError(f"unknown setting of the voxel world: {error}") from None
        self.render_mode = render_mode
        self.action_space = ActionSpace()
        shape = (self.config.height, self.config.width, 3)
        self.observation_space = spaces.Dict({"pov": spaces.Box(0, 255, shape, dtype=np.uint8)})
        self._simulation: Simulation | None = None
        self._task: Task | None = None
        self._ended = self._closed = False
        self._frame: np.ndarray | None = None
        self._window: Window | None = None

    @property
    def simulation(self) -> Simulation:
        """The running game. ResetNeeded before the first reset."""
        if self._simulation is None:
            raise ResetNeeded("call reset() first")
        return self._simulation

    @property
    def task(self) -> Task:
        """The running task. ResetNeeded before the first reset."""
        if self._task is None:
            raise ResetNeeded("call reset() first")
        return self._task

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts a new world, or goes on from options["state"]. On a ValueError the running game stays."""
        self._check_open()
        before = (self._np_random, self._np_random_seed)
        before_state = None if self._np_random is None else deepcopy(self._np_random.bit_generator.state)
        try:
            super().reset(seed=seed)
            made = self.prepare(options)
        except Exception:
            self._np_random, self._np_random_seed = before
            if self._np_random is not None:
                self._np_random.bit_generator.state = before_state  # type: ignore[assignment]
            raise
        self.begin(made)
        return self._observe(), self.info()

    def prepare(self, options: dict[str, Any] | None = None) -> Begun:
        """What `begin` starts: a new game from the environment's random numbers, or that of a state. The
        running game stays."""
        choice = _check_options(options)
        return self._restored(choice["state"]) if "state" in choice else self._new(choice)

    def begin(self, made: Begun) -> None:
        """Start what was prepared."""
        self._simulation, self._task, self._ended = made

    def _new(self, options: Mapping[str, Any]) -> Begun:
        drawn = int(self.np_random.integers(2**31))
        world = World.from_seed(self.config.world_size, options.get("terrain_seed", drawn))
        simulation = Simulation(
            world, spawn_body(world, self.np_random), Inventory.of(self.config.start_items), self.config.reach
        )
        simulation.status[p.ON_GROUND] = 1
        task = make_task(self.config)
        task.begin(simulation, self.np_random)
        return simulation, task, False

    def _restored(self, state: Mapping[str, Any]) -> Begun:
        simulation = restore(state, self.config.world_size, self.config.reach)
        task = task_from_dict(state["task"])
        generator = np.random.PCG64(0)
        try:
            generator.state = deepcopy(state["rng"])
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"state['rng'] is not a PCG64 state: {error}") from None
        self.np_random = np.random.Generator(generator)
        return simulation, task, state["ended"]

    def step(
        self, action: Mapping[str, Any]
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One tick. ValueError on a bad action and ResetNeeded after the end, both with nothing changed."""
        controls = parse_action(action)
        self.check_running()
        reward, terminated, truncated = self.tick(controls)
        return self._observe(), reward, terminated, truncated, self.info()

    @property
    def ended(self) -> bool:
        """Whether the episode has ended."""
        return self._ended

    def check_running(self) -> None:
        """ResetNeeded before the first reset and after the end of an episode, ClosedEnvironmentError after
        `close`."""
        self._check_open()
        if self._simulation is None or self._ended:
            begun = self._simulation is not None
            raise ResetNeeded("the episode has ended; call reset()" if begun else "call reset() first")

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedEnvironmentError("the environment is closed: make another one")

    def tick(self, controls: Controls) -> tuple[float, bool, bool]:
        """One step without its picture: reward, terminated, truncated."""
        simulation = self.simulation
        escaped = "ESC" in controls.pressed and self.config.escape_ends
        events = simulation.tick(controls)
        outcome = self.task.score(simulation, events)
        terminated = outcome.over or escaped
        truncated = not terminated and 0 < self.config.max_steps <= simulation.ticks
        self._ended = terminated or truncated
        return float(outcome.reward), terminated, truncated

    def get_state(self) -> dict[str, Any]:
        """The exact state as plain data, for `reset(options={"state": ...})`."""
        return {
            **snapshot(self.simulation),
            "ended": self._ended,
            "task": task_to_dict(self.task),
            "rng": deepcopy(self.np_random.bit_generator.state),
        }

    def render(self) -> np.ndarray | None:
        """The current frame for "rgb_array"; shows it for "human"; nothing without a render mode.
        ResetNeeded before the first reset, ClosedEnvironmentError after `close`."""
        self._check_open()
        if self._frame is None:
            raise ResetNeeded("call reset() before render()")
        if self.render_mode == "rgb_array":
            return self._frame.copy()
        if self.render_mode == "human":
            self._show()
        return None

    def close(self) -> None:
        """Close the window, if any; further steps and resets raise ClosedEnvironmentError."""
        self._closed = True
        if self._window is not None:
            self._window.close()
            self._window = None

    def _observe(self) -> dict[str, np.ndarray]:
        self._frame = self._draw()
        if self.render_mode == "human":
            self._show()
        return {"pov": self._frame.copy()}

    def _draw(self) -> np.ndarray:
        frame = draw_world(self.simulation.world, self.view(), self.config.width, self.config.height)
        self.draw_over(frame)
        return frame

    def draw_over(self, frame: np.ndarray) -> None:
        """Draw hand, hotbar and panel over a picture of the world [H, W, 3]."""
        hands = self.simulation.hands
        draw_hud(frame, self.simulation.inventory, hands.swing, hands.gui_open)

    def view(self) -> View:
        """From where the player looks, and at what."""
        simulation, config = self.simulation, self.config
        hands, body = simulation.hands, simulation.body
        target = simulation.target()
        crack = 0.0
        if target and target.cell == hands.dig_cell and hands.dig_ticks:
            crack = hands.dig_ticks / max(int(BREAK_TICKS[simulation.world.blocks[target.cell]]), 1)
        return View(
            eye=simulation.eye,
            yaw=float(body[p.YAW]),
            pitch=float(body[p.PITCH]),
            field_of_view=config.field_of_view,
            distance=config.view_distance,
            target=target.cell if target else None,
            crack=crack,
        )

    def _show(self) -> None:
        if self._window is None:
            self._window = Window(self.config.width, self.config.height, TICKS_PER_SECOND)
        if self._frame is not None:
            self._window.show(self._frame)

    def info(self) -> dict[str, Any]:
        """Plain numbers under MineRL's names, and how the task stands."""
        simulation, task = self.simulation, self.task
        x, y, z, _, _, _, yaw, pitch = simulation.body.tolist()
        return {
            "location_stats": {"xpos": x, "ypos": y, "zpos": z, "yaw": yaw, "pitch": pitch},
            "hotbar": int(simulation.inventory.selected),
            "inventory": simulation.inventory.named_counts(),
            "isGuiOpen": int(simulation.hands.gui_open),
            "task": task.text,
            "progress": float(task.progress),
            "success": bool(task.progress >= 1.0),
        }


def _check_options(options: dict[str, Any] | None) -> dict[str, Any]:
    choice = options or {}
    if not isinstance(choice, Mapping) or not choice.keys() <= _OPTIONS:
        raise ValueError(f"reset options are {' and '.join(sorted(_OPTIONS))}, got {choice!r:.80}")
    if len(choice) > 1:
        raise ValueError("reset options: give either state or terrain_seed, a state has its own terrain")
    number = choice.get("terrain_seed", 0)
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or not 0 <= number < 2**31:
        raise ValueError(f"terrain_seed must be a whole number of 0 to 2^31 - 1, got {number!r}")
    return {key: int(value) if key == "terrain_seed" else value for key, value in choice.items()}
