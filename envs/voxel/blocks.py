"""The kinds of blocks: their ids, names and properties, and the same as arrays for compiled code."""

from dataclasses import dataclass

import numpy as np

AIR, GRASS, DIRT, STONE, SAND, LOG, LEAVES, WATER, PLANKS, COBBLESTONE, GRAVEL = range(11)
COAL_ORE, IRON_ORE, DIAMOND_ORE, SNOW, BEDROCK, MARKER, PATH, BRICKS = range(11, 19)
OUTSIDE = 255  # pads the world on every side, so that a ray needs no bounds checks

# How a ray sees a block.
CLEAR, OPAQUE, CUTOUT, LIQUID = range(4)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One kind of block. break_ticks 0: cannot be broken; drop AIR: leaves nothing behind.

    Tile names are the drawings of `textures.py`; side and bottom default to top.
    """

    id: int
    name: str
    tile: str
    side: str | None = None
    bottom: str | None = None
    look: int = OPAQUE
    solid: bool = True
    break_ticks: int = 0
    drop: int | None = None
    glows: bool = False


# Breaking is faster than Minecraft's bare hand (stone 150 ticks, log 60): there are no tools here.
BLOCKS = (
    Block(id=AIR, name="air", tile="dirt", look=CLEAR, solid=False, drop=AIR),
    Block(
        id=GRASS,
        name="grass_block",
        tile="grass_top",
        side="grass_side",
        bottom="dirt",
        break_ticks=14,
        drop=DIRT,
    ),
    Block(id=DIRT, name="dirt", tile="dirt", break_ticks=12),
    Block(id=STONE, name="stone", tile="stone", break_ticks=30, drop=COBBLESTONE),
    Block(id=SAND, name="sand", tile="sand", break_ticks=12),
    Block(id=LOG, name="oak_log", tile="log_top", side="log_side", break_ticks=30),
    Block(id=LEAVES, name="oak_leaves", tile="leaves", look=CUTOUT, break_ticks=6, drop=AIR),
    Block(id=WATER, name="water", tile="water", look=LIQUID, solid=False, drop=AIR),
    Block(id=PLANKS, name="oak_planks", tile="planks", break_ticks=30),
    Block(id=COBBLESTONE, name="cobblestone", tile="cobblestone", break_ticks=30),
    Block(id=GRAVEL, name="gravel", tile="gravel", break_ticks=14),
    Block(id=COAL_ORE, name="coal_ore", tile="coal_ore", break_ticks=40),
    Block(id=IRON_ORE, name="iron_ore", tile="iron_ore", break_ticks=40),
    Block(id=DIAMOND_ORE, name="diamond_ore", tile="diamond_ore", break_ticks=50),
    Block(id=SNOW, name="snow_block", tile="snow", break_ticks=10),
    Block(id=BEDROCK, name="bedrock", tile="bedrock"),
    Block(id=MARKER, name="marker", tile="marker_top", side="marker_side", glows=True),
    Block(id=PATH, name="grass_path", tile="path_top", side="path_side", bottom="dirt", break_ticks=14),
    Block(id=BRICKS, name="bricks", tile="bricks", break_ticks=40),
)
BLOCK_COUNT = len(BLOCKS)
NAMES = tuple(block.name for block in BLOCKS)
# What can lie in the inventory, in the order of the ids.
ITEM_IDS = tuple(block.id for block in BLOCKS if block.id not in (AIR, WATER, BEDROCK, MARKER))
ITEM_NAMES = tuple(NAMES[index] for index in ITEM_IDS)
ID_OF = {name: index for index, name in enumerate(NAMES)}


def _table(values: dict[int, int], outside: int) -> np.ndarray:
    table = np.zeros(256, dtype=np.uint8)
    for index, value in values.items():
        table[index] = value
    table[OUTSIDE] = outside
    return table


# Tables over all 256 ids, uint8.
SOLID = _table({block.id: int(block.solid) for block in BLOCKS}, outside=1)
LOOK = _table({block.id: block.look for block in BLOCKS}, outside=OPAQUE)
GLOWS = _table({block.id: int(block.glows) for block in BLOCKS}, outside=0)
BREAK_TICKS = _table({block.id: block.break_ticks for block in BLOCKS}, outside=0)
DROP = _table({block.id: block.id if block.drop is None else block.drop for block in BLOCKS}, outside=AIR)
