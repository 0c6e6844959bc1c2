"""Frames and actions of the voxel world, and of recordings on disk, as conversations."""

from unified.tasks.worlds.clips import Clip, WorldConfig
from unified.tasks.worlds.recorded import RecordingsConfig
from unified.tasks.worlds.world_tasks import TASKS

__all__ = ["TASKS", "Clip", "RecordingsConfig", "WorldConfig"]
