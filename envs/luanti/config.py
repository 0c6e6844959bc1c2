"""Settings of one game; every field can be passed to `gymnasium.make`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from unified.finite import check_number

SMALLEST, LARGEST = 8, 2048
MOST_ITEMS = 2304  # 36 slots of 64


def _default_items() -> dict[str, int]:
    return {"default:pick_stone": 1, "default:dirt": 32, "default:wood": 32}


@dataclass(frozen=True, kw_only=True)
class LuantiConfig:
    """Settings of a game. Lengths are in nodes, angles in degrees, times in ticks of 1/20 second.

    width, height: pixels of `pov`, 8 to 2048. field_of_view: vertical, 45 to 160; the client widens it by up
    to 1.4 where `pov` is narrower than 16:10. view_distance: where the fog is complete, 20 to 200.
    max_steps: the episode is truncated after so many steps; 0 means never. escape_ends: whether ESC ends
    the episode; it always closes the inventory. start_items: what the player carries at first, in this order
    from slot 1, item name of the game to count; unknown names are a ValueError at the reset. patience:
    seconds until the game must have answered.
    """

    width: int = 64
    height: int = 64
    field_of_view: float = 72.0
    view_distance: int = 60
    max_steps: int = 2400
    escape_ends: bool = False
    start_items: Mapping[str, int] = field(default_factory=_default_items)
    patience: float = 120.0

    def __post_init__(self) -> None:
        sides = {"width": (SMALLEST, LARGEST), "height": (SMALLEST, LARGEST)}
        limits = {**sides, "view_distance": (20, 200), "max_steps": (0, 10**9)}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name} must be a whole number of {low} to {high}, got {value!r}")
        for name, least, most in (("field_of_view", 45, 160), ("patience", 1, 3600)):
            check_number(name, getattr(self, name), least, most)
        if not isinstance(self.start_items, Mapping):
            raise ValueError(f"start_items must map item names to counts, got {self.start_items!r:.60}")
        for name, count in self.start_items.items():
            if not isinstance(name, str) or not name or any(character.isspace() for character in name):
                raise ValueError(f"start_items: an item's name is a word such as default:dirt, got {name!r}")
            if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST_ITEMS:
                raise ValueError(f"start_items: {name} must be a count of 0 to {MOST_ITEMS}, got {count!r}")
