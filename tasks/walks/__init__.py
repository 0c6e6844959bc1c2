"""Walks through towns of blocks with coloured crossings, and a follower of instructions."""

from typing import Any

from unified.tasks.walks.walk_task import VoxelWalk, WalkConfig

TASKS: dict[str, Any] = {VoxelWalk.name: VoxelWalk}

__all__ = ["TASKS", "VoxelWalk", "WalkConfig"]
