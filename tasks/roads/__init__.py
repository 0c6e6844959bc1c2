"""A road from above with moving boxes: see ahead, then plan."""

from typing import Any

from unified.tasks.roads.road_task import RoadConfig, RoadTask

TASKS: dict[str, Any] = {RoadTask.name: RoadTask}

__all__ = ["TASKS", "RoadConfig", "RoadTask"]
