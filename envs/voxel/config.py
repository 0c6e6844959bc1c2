"""Settings of one voxel world; every field can be passed to `gymnasium.make`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from unified.envs.voxel.blocks import ITEM_NAMES

from unified.finite import check_number

TASK_NAMES = ("explore", "reach", "collect_logs", "dig_down", "follow_path")
MAX_ITEMS = 2304  # what MineRL's inventory space can count: 36 slots of 64


def _default_items() -> dict[str, int]:
    return {"oak_planks": 16, "bricks": 16}


@dataclass(frozen=True, kw_only=True)
class VoxelConfig:
    """Settings of a world. Lengths are in blocks, angles in degrees, times in ticks of 1/20 second.

    width, height: pixels of `pov`, 8 to 4096. world_size: blocks along x, y (up) and z.
    field_of_view: vertical, as Minecraft's. view_distance: where the fog is complete.
    max_steps: the episode is truncated after so many steps; 0 means never.
    task: one of `TASK_NAMES`; goal: its size (logs, depth, path cells, distance), None for the task's own.
    escape_ends: whether ESC ends the episode, as in MineRL's BASALT worlds; it always closes the inventory.
    start_items: what the player carries at first, item name to count.
    """

    width: int = 64
    height: int = 64
    world_size: tuple[int, int, int] = (64, 48, 64)
    field_of_view: float = 70.0
    reach: float = 4.5
    view_distance: float = 64.0
    max_steps: int = 2400
    task: str = "explore"
    goal: int | None = None
    escape_ends: bool = False
    start_items: Mapping[str, int] = field(default_factory=_default_items)

    def __post_init__(self) -> None:
        self._check_whole_numbers()
        self._check_world_size()
        for name, low, high in (("field_of_view", 10, 150), ("reach", 0.5, 16), ("view_distance", 4, 1024)):
            check_number(name, getattr(self, name), low, high)
        if self.task not in TASK_NAMES:
            raise ValueError(f"task must be one of {', '.join(TASK_NAMES)}, got {self.task!r}")
        for name, count in self.start_items.items():
            if name not in ITEM_NAMES:
                raise ValueError(f"start_items: no item {name!r}; items are {', '.join(ITEM_NAMES)}")
            if not isinstance(count, int) or not 0 <= count <= MAX_ITEMS:
                raise ValueError(f"start_items: {name} must be a count of 0 to {MAX_ITEMS}, got {count!r}")

    def _check_whole_numbers(self) -> None:
        limits = {"width": (8, 4096), "height": (8, 4096), "max_steps": (0, 10**9)}
        if self.goal is not None:
            limits["goal"] = (1, 10**6)
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name} must be a whole number of {low} to {high}, got {value!r}")

    def _check_world_size(self) -> None:
        size = tuple(self.world_size)  # a list when it comes from JSON
        if len(size) != 3 or not all(isinstance(length, int) and 16 <= length <= 1024 for length in size):
            raise ValueError(f"world_size must be three whole numbers (x, y, z) of 16 to 1024, got {size}")
        if size[1] > 256 or size[1] < 24:
            raise ValueError(f"world_size: the height y must lie in 24 to 256, got {size[1]}")
        object.__setattr__(self, "world_size", size)
