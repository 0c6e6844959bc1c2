"""docs/sketchpad.md is true: its Python runs, and its tables name tasks that there are."""

import re
from pathlib import Path

from unified.tasks.registry import TASKS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sketchpad.md").read_text(encoding="utf-8")


def test_its_python_runs():
    scope: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(block, "docs/sketchpad.md", "exec"), scope)
    assert (scope["effect"].own, scope["effect"].causal) == (1.0, True)
    assert scope["settings"].sketches.coarse_maps == 3


def test_it_names_tasks_and_files_that_exist():
    named = re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    assert len(named) == 4
    assert set(named) <= set(TASKS)
    root = Path(__file__).resolve().parents[2]
    files = re.findall(r"`((?:tasks|tests|unified|train)/[\w/.]+)`", PAGE)
    assert len(files) >= 3
    assert all((root / name).exists() for name in files)
