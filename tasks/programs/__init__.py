"""Scene programs: inverse graphics with a renderer that runs what was written."""

from typing import Any

from unified.tasks.programs.program_task import ProgramConfig, SceneProgram

TASKS: dict[str, Any] = {SceneProgram.name: SceneProgram}

__all__ = ["TASKS", "ProgramConfig", "SceneProgram"]
