"""The game: a world, a player in it, and what one tick of controls does. No gymnasium, no pictures."""

from dataclasses import dataclass, field

import numpy as np
from unified.envs.voxel import physics as p
from unified.envs.voxel.actions import HOTBAR_KEYS, Controls
from unified.envs.voxel.blocks import AIR, BREAK_TICKS, DROP, SOLID, WATER
from unified.envs.voxel.hud import SWING_TICKS
from unified.envs.voxel.inventory import Inventory
from unified.envs.voxel.sight import Target, direction, find_target
from unified.envs.voxel.world import World

# Minecraft's pauses between two actions of a held button, in ticks.
BREAK_WAIT = 5
USE_WAIT = 4


@dataclass
class Hands:
    """What the hands are in the middle of. held: the buttons of the last tick, as some act once per press."""

    dig_cell: tuple[int, int, int] | None = None
    dig_ticks: int = 0
    break_wait: int = 0
    use_wait: int = 0
    swing: int = 0
    gui_open: bool = False
    held: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Events:
    """What a tick did: the blocks broken and placed (AIR for none)."""

    broken: int = AIR
    placed: int = AIR


@dataclass
class Simulation:
    """The whole state of a game. body [8] float64 and status [5] int64 are laid out as in `physics`."""

    world: World
    body: np.ndarray
    inventory: Inventory
    reach: float
    status: np.ndarray = field(default_factory=lambda: np.zeros(5, dtype=np.int64))
    hands: Hands = field(default_factory=Hands)
    ticks: int = 0

    @property
    def eye(self) -> np.ndarray:
        """Where the player looks from, [3] in blocks."""
        height = p.SNEAKING_EYE if "sneak" in self.hands.held else p.EYE
        return self.body[:3] + np.array((0.0, height, 0.0))

    @property
    def feet(self) -> tuple[int, int, int]:
        """The cell the player stands in."""
        x, y, z = np.floor(self.body[:3] + np.array((0.0, 1e-4, 0.0))).astype(int).tolist()
        return x, y, z

    def target(self) -> Target | None:
        """The block under the crosshair, within reach."""
        view = direction(self.body[p.YAW], self.body[p.PITCH])
        return find_target(self.world.cells, self.eye, view, self.reach)

    def tick(self, controls: Controls) -> Events:
        """One twentieth of a second: turn, use the hands, move."""
        fresh = controls.pressed - self.hands.held
        if "inventory" in fresh or ("ESC" in fresh and self.hands.gui_open):
            self.hands.gui_open = not self.hands.gui_open and "inventory" in fresh
        self._choose_item(controls, fresh)
        events = Events()
        pressed = frozenset() if self.hands.gui_open else controls.pressed
        self._count_down()
        if self.hands.gui_open:
            self._stop_digging()
        else:
            self._turn(controls)
            events = self._use_hands(pressed, fresh)
        self._move(pressed)
        self.hands.held = controls.pressed
        self.ticks += 1
        return events

    def _choose_item(self, controls: Controls, fresh: frozenset[str]) -> None:
        for slot, key in enumerate(HOTBAR_KEYS):
            if key in controls.pressed:
                self.inventory.selected = slot
        if "swapHands" in fresh:
            self.inventory.swap_hands()
        if "drop" in fresh and not self.hands.gui_open:
            self.inventory.take_held()

    def _turn(self, controls: Controls) -> None:
        yaw = self.body[p.YAW] + controls.yaw
        self.body[p.YAW] = (yaw + 180.0) % 360.0 - 180.0
        self.body[p.PITCH] = min(max(self.body[p.PITCH] + controls.pitch, -90.0), 90.0)

    def _count_down(self) -> None:
        hands = self.hands
        hands.break_wait = max(hands.break_wait - 1, 0)
        hands.use_wait = max(hands.use_wait - 1, 0)
        hands.swing = max(hands.swing - 1, 0)

    def _use_hands(self, pressed: frozenset[str], fresh: frozenset[str]) -> Events:
        if not pressed & {"attack", "use", "pickItem"}:
            self._stop_digging()
            return Events()
        target = self.target()
        if target and "pickItem" in fresh:
            x, y, z = target.cell
            self.inventory.pick(int(self.world.blocks[x, y, z]))
        broken = self._dig(target) if "attack" in pressed else self._stop_digging()
        placed = self._place(target, fresh) if target and "use" in pressed else AIR
        return Events(broken=broken, placed=placed)

    def _stop_digging(self) -> int:
        self.hands.dig_cell, self.hands.dig_ticks = None, 0
        return AIR

    def _dig(self, target: Target | None) -> int:
        """One tick of hitting; returns the block that broke, AIR if none did."""
        hands = self.hands
        if hands.swing == 0:
            hands.swing = SWING_TICKS
        if target is None or hands.break_wait:
            return self._stop_digging()
        if target.cell != hands.dig_cell:
            hands.dig_cell, hands.dig_ticks = target.cell, 0
        x, y, z = target.cell
        block = int(self.world.blocks[x, y, z])
        if BREAK_TICKS[block] == 0:
            return AIR
        hands.dig_ticks += 1
        if hands.dig_ticks < BREAK_TICKS[block]:
            return AIR
        self.world.set_block(x, y, z, self._filling(x, y, z))
        self.inventory.add(int(DROP[block]))
        self._stop_digging()
        hands.break_wait = BREAK_WAIT
        return block

    def _filling(self, x: int, y: int, z: int) -> int:
        """What takes the place of a broken block: water if there is some beside or above it, else air."""
        for cell in ((x - 1, y, z), (x + 1, y, z), (x, y, z - 1), (x, y, z + 1), (x, y + 1, z)):
            if self.world.inside(*cell) and self.world.blocks[cell] == WATER:
                return WATER
        return AIR

    def can_place(self, target: Target | None, fresh: bool = False) -> bool:
        """Whether "use" would set the held block before the target; `fresh`: the key was up before."""
        hands = self.hands
        if target is None or self.inventory.held == AIR or (hands.use_wait and not fresh):
            return False
        cell = target.front
        if not self.world.inside(*cell) or SOLID[self.world.blocks[cell]]:
            return False
        return not self._occupies(cell)

    def _place(self, target: Target, fresh: frozenset[str]) -> int:
        """Puts the held block before the targeted face, never into the player; returns it, or AIR."""
        hands, cell = self.hands, target.front
        if not self.can_place(target, "use" in fresh):
            return AIR
        block = self.inventory.take_held()
        if block != AIR:
            self.world.set_block(*cell, block)
            hands.use_wait, hands.swing = USE_WAIT, SWING_TICKS
        return block

    def _occupies(self, cell: tuple[int, int, int]) -> bool:
        """Whether the player's box overlaps a cell."""
        low = self.body[:3] - (p.HALF_WIDTH, 0.0, p.HALF_WIDTH)
        high = self.body[:3] + np.array((p.HALF_WIDTH, p.TALL, p.HALF_WIDTH))
        return all(low[axis] < cell[axis] + 1 - 1e-7 and high[axis] > cell[axis] + 1e-7 for axis in range(3))

    def _move(self, pressed: frozenset[str]) -> None:
        forward = float("forward" in pressed) - float("back" in pressed)
        left = float("left" in pressed) - float("right" in pressed)
        p.advance(
            self.world.cells, SOLID, self.body, self.status, forward, left,
            "jump" in pressed, "sneak" in pressed, "sprint" in pressed,
        )  # fmt: skip
