"""What the player carries: a count per kind of block, nine hotbar slots and a second hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from unified.envs.voxel.blocks import AIR, BLOCK_COUNT, ID_OF, ITEM_IDS, NAMES
from unified.envs.voxel.config import MAX_ITEMS

SLOTS = 9


@dataclass
class Inventory:
    """counts [BLOCK_COUNT] int32; hotbar [9] uint8 of block ids, AIR where empty."""

    counts: np.ndarray = field(default_factory=lambda: np.zeros(BLOCK_COUNT, dtype=np.int32))
    hotbar: np.ndarray = field(default_factory=lambda: np.zeros(SLOTS, dtype=np.uint8))
    offhand: int = AIR
    selected: int = 0

    @classmethod
    def of(cls, items: Mapping[str, int]) -> "Inventory":
        inventory = cls()
        for name, count in items.items():
            inventory.add(ID_OF[name], count)
        return inventory

    @property
    def held(self) -> int:
        """The block in the hand, AIR for a bare hand."""
        return int(self.hotbar[self.selected])

    def count(self, block: int) -> int:
        return int(self.counts[block])

    def add(self, block: int, count: int = 1) -> None:
        """Puts items away; a new kind takes the first free slot of the hotbar. More than 2304 are lost."""
        if block == AIR or count <= 0:
            return
        self.counts[block] = min(int(self.counts[block]) + count, MAX_ITEMS)
        if block not in self.hotbar and block != self.offhand:
            free = np.nonzero(self.hotbar == AIR)[0]
            if free.size:
                self.hotbar[free[0]] = block

    def take_held(self) -> int:
        """Removes one item from the hand and returns its block, AIR if there was none."""
        block = self.held
        if block == AIR or self.counts[block] == 0:
            return AIR
        self.counts[block] -= 1
        if self.counts[block] == 0:
            self.hotbar[self.selected] = AIR
        return block

    def pick(self, block: int) -> None:
        """Brings a carried block into the hand, as the middle mouse button does."""
        if self.counts[block] == 0 or block == self.offhand:
            return
        places = np.nonzero(self.hotbar == block)[0]
        if places.size:
            self.selected = int(places[0])
        else:
            self.hotbar[self.selected] = block

    def swap_hands(self) -> None:
        self.hotbar[self.selected], self.offhand = self.offhand, self.held

    def named_counts(self) -> dict[str, int]:
        """Every item's name and count, zeros included."""
        return {NAMES[block]: int(self.counts[block]) for block in ITEM_IDS}
