"""Planning tasks with sketches: MazePlanning (arXiv 2510.24514) and FrozenLake.

`TASKS[name](config)` makes a task; without a configuration the defaults apply.
"""

from typing import Any

from unified.tasks.mazes.fill_task import FillConfig, MazeFillTask
from unified.tasks.mazes.lake_task import FrozenLakeTask, LakeConfig
from unified.tasks.mazes.maze_task import MazeConfig, MazeTask, MazeTextTask
from unified.tasks.mazes.metrics import Rates, rates, rates_by_size
from unified.tasks.mazes.path_task import MazePathTask
from unified.tasks.mazes.records import Record, read_records, write_records

TASKS: dict[str, Any] = {
    task.name: task for task in (MazeTask, MazeTextTask, MazePathTask, MazeFillTask, FrozenLakeTask)
}

__all__ = [
    "TASKS",
    "FillConfig",
    "FrozenLakeTask",
    "LakeConfig",
    "MazeConfig",
    "MazeFillTask",
    "MazePathTask",
    "MazeTask",
    "MazeTextTask",
    "Rates",
    "Record",
    "rates",
    "rates_by_size",
    "read_records",
    "write_records",
]
