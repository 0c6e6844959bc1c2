"""An encyclopedia of invented things, for answers of text and pictures from what was retrieved."""

from typing import Any

from unified.tasks.encyclopedia.answer_task import EncyclopediaConfig, EncyclopediaTask

TASKS: dict[str, Any] = {EncyclopediaTask.name: EncyclopediaTask}

__all__ = ["TASKS", "EncyclopediaConfig", "EncyclopediaTask"]
