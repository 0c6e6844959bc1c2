"""A game as plain data and back, exactly: the steps after a restored state give the same bytes.

A snapshot is a dictionary of numbers, arrays and strings (it can be pickled); `state_to_json` stores
the blocks as the difference from the terrain of their seed.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from unified.envs.voxel import physics as p
from unified.envs.voxel.actions import BUTTONS
from unified.envs.voxel.blocks import BLOCK_COUNT, ITEM_IDS, SOLID
from unified.envs.voxel.config import MAX_ITEMS
from unified.envs.voxel.inventory import SLOTS, Inventory
from unified.envs.voxel.simulation import Hands, Simulation
from unified.envs.voxel.terrain import generate
from unified.envs.voxel.world import World, check_blocks

VERSION = 1
_ARRAYS = {
    "body": ((8,), np.float64),
    "status": ((5,), np.int64),
    "counts": ((BLOCK_COUNT,), np.int32),
    "hotbar": ((SLOTS,), np.uint8),
}
_NUMBERS = ("version", "terrain_seed", "offhand", "selected", "ticks")
_HANDS = ("dig_cell", "dig_ticks", "break_wait", "use_wait", "swing", "gui_open", "held")
_KEYS = frozenset((*_ARRAYS, *_NUMBERS, "blocks", "hands", "ended", "task", "rng"))


def snapshot(simulation: Simulation) -> dict[str, Any]:
    """The game's part of a state; the environment adds `ended`, `task` and `rng`."""
    inventory, hands = simulation.inventory, simulation.hands
    return {
        "version": VERSION,
        "terrain_seed": simulation.world.terrain_seed,
        "blocks": simulation.world.blocks.copy(),
        "body": simulation.body.copy(),
        "status": simulation.status.copy(),
        "counts": inventory.counts.copy(),
        "hotbar": inventory.hotbar.copy(),
        "offhand": int(inventory.offhand),
        "selected": int(inventory.selected),
        "ticks": simulation.ticks,
        "hands": {
            "dig_cell": list(hands.dig_cell) if hands.dig_cell else None,
            "dig_ticks": hands.dig_ticks,
            "break_wait": hands.break_wait,
            "use_wait": hands.use_wait,
            "swing": hands.swing,
            "gui_open": hands.gui_open,
            "held": sorted(hands.held),
        },
    }


def restore(state: Mapping[str, Any], world_size: tuple[int, int, int], reach: float) -> Simulation:
    """The game of a state, sharing no memory with it. ValueError, naming the part, where it is no state."""
    _check_keys(state)
    arrays = {name: _array(state, name, shape, dtype) for name, (shape, dtype) in _ARRAYS.items()}
    try:
        check_blocks(state["blocks"])
    except ValueError as error:
        raise ValueError(f"state['blocks']: {error}") from None
    if state["blocks"].shape != tuple(world_size):
        raise ValueError(
            f"state['blocks'] has the shape {state['blocks'].shape}, this world's size is {tuple(world_size)}"
        )
    _check_inventory(state, arrays)
    world = World(state["blocks"].copy(), state["terrain_seed"])
    _check_body(world, arrays["body"], arrays["status"])
    inventory = Inventory(arrays["counts"], arrays["hotbar"], state["offhand"], state["selected"])
    return Simulation(
        world,
        arrays["body"],
        inventory,
        reach,
        arrays["status"],
        _hands(state["hands"], world),
        state["ticks"],
    )


def _check_keys(state: Mapping[str, Any]) -> None:
    if not isinstance(state, Mapping):
        raise ValueError(f"state must be a dictionary from get_state(), got {type(state).__name__}")
    if state.keys() != _KEYS:
        wrong = ", ".join(sorted(str(key) for key in state.keys() ^ _KEYS))
        raise ValueError(f"state has missing or unknown parts: {wrong}")
    for name in _NUMBERS:
        if type(state[name]) is not int or state[name] < 0:
            raise ValueError(f"state[{name!r}] must be a whole number of at least 0, got {state[name]!r}")
    if state["version"] != VERSION:
        raise ValueError(f"state['version'] is {state['version']}, this world reads version {VERSION}")
    if type(state["ended"]) is not bool:
        raise ValueError(f"state['ended'] must be True or False, got {state['ended']!r}")


def _array(state: Mapping[str, Any], name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    value = state[name]
    if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype != dtype:
        raise ValueError(f"state[{name!r}] must be a {np.dtype(dtype).name} array of shape {shape}")
    return value.copy()


def _check_inventory(state: Mapping[str, Any], arrays: dict[str, np.ndarray]) -> None:
    counts, hotbar = arrays["counts"], arrays["hotbar"]
    carried = np.zeros(BLOCK_COUNT, dtype=bool)
    carried[list(ITEM_IDS)] = True
    if counts.min() < 0 or counts.max() > MAX_ITEMS or counts[~carried].any():
        raise ValueError(
            f"state['counts'] must hold 0 to {MAX_ITEMS} of each item and none of what is no item"
        )
    if not np.isin(hotbar, (0, *ITEM_IDS)).all() or state["offhand"] not in (0, *ITEM_IDS):
        raise ValueError("state['hotbar'] and state['offhand'] must hold items or 0")
    if state["selected"] >= SLOTS:
        raise ValueError(f"state['selected'] must lie in 0 to {SLOTS - 1}, got {state['selected']}")


def _check_body(world: World, body: np.ndarray, status: np.ndarray) -> None:
    if not np.isfinite(body).all():
        raise ValueError("state['body'] must be finite")
    if abs(body[p.PITCH]) > 90 or abs(body[p.YAW]) > 180 or np.abs(body[3:6]).max() > 16:
        raise ValueError("state['body'] has an angle or a speed out of range")
    top = np.array(world.size) - (p.HALF_WIDTH, p.TALL, p.HALF_WIDTH) + 1e-6
    if (body[:3] < (p.HALF_WIDTH - 1e-6, -1e-6, p.HALF_WIDTH - 1e-6)).any() or (body[:3] > top).any():
        raise ValueError(f"state['body'] stands outside the world: {body[:3].tolist()}")
    if p.collides(world.cells, SOLID, body[p.X], body[p.Y], body[p.Z]):
        raise ValueError(f"state['body'] stands inside a block at {body[:3].tolist()}")
    if status.min() < 0 or status.max() > 10 or status[[0, 1, 2, 4]].max() > 1:
        raise ValueError("state['status'] must hold flags of 0 or 1 and a pause of at most 10 ticks")


def _hands(data: Any, world: World) -> Hands:
    if not isinstance(data, Mapping) or set(data) != set(_HANDS):
        raise ValueError(f"state['hands'] must have the parts {', '.join(_HANDS)}")
    counters = [data[name] for name in ("dig_ticks", "break_wait", "use_wait", "swing")]
    if not all(type(value) is int and 0 <= value <= 255 for value in counters):
        raise ValueError("state['hands'] must hold whole numbers of ticks")
    if type(data["gui_open"]) is not bool or not isinstance(data["held"], list | tuple):
        raise ValueError("state['hands'] needs gui_open (True or False) and held (a list of buttons)")
    if not all(isinstance(key, str) and key in BUTTONS for key in data["held"]):
        raise ValueError("state['hands']['held'] has unknown buttons")
    cell = data["dig_cell"]
    if cell is not None:
        whole = (
            isinstance(cell, list | tuple) and len(cell) == 3 and all(type(number) is int for number in cell)
        )
        if not whole or not world.inside(*cell):
            raise ValueError(f"state['hands']['dig_cell'] must be None or a cell of the world, got {cell!r}")
    values = {**data, "dig_cell": tuple(cell) if cell else None, "held": frozenset(data["held"])}
    return Hands(**values)


def state_to_json(state: Mapping[str, Any]) -> str:
    """A state as one JSON text; small, since only blocks that differ from the terrain are written."""
    blocks = state["blocks"]
    fresh = generate(blocks.shape, state["terrain_seed"])
    changed = np.nonzero((blocks != fresh).ravel())[0]
    plain = {
        name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in state.items()
    }
    plain["blocks"] = {
        "size": list(blocks.shape),
        "places": changed.tolist(),
        "ids": blocks.ravel()[changed].tolist(),
    }
    return json.dumps(plain)


def state_from_json(text: str) -> dict[str, Any]:
    """The inverse of `state_to_json`; ValueError where the text is no state."""
    try:
        state = json.loads(text)
        size, places, ids = (state["blocks"][name] for name in ("size", "places", "ids"))
        blocks = generate(tuple(size), state["terrain_seed"])
        blocks.reshape(-1)[places] = np.asarray(ids, dtype=np.uint8)
        arrays = {name: np.array(state[name], dtype=dtype) for name, (_, dtype) in _ARRAYS.items()}
    except (KeyError, TypeError, IndexError, OverflowError, ValueError, RecursionError) as error:
        raise ValueError(f"not the JSON text of a state: {type(error).__name__} {error}") from None
    return {**state, **arrays, "blocks": blocks}
