"""The example of docs/add_a_part.md, section "Add an objective", is run as it stands."""

import re
from pathlib import Path

import pytest

from unified.objectives import OBJECTIVES

PAGE = Path(__file__).resolve().parents[3] / "docs" / "add_a_part.md"
SECTION = PAGE.read_text().split("\n## Add an objective\n")[1].split("\n## ")[0]
BLOCKS = re.findall(r"```python\n(.*?)```", SECTION, flags=re.DOTALL)


def test_the_example_gives_the_loss_it_says():
    scope: dict = {}
    try:
        for block in BLOCKS:
            exec(compile(block, str(PAGE), "exec"), scope)
    finally:
        OBJECTIVES.pop("ipo", None)
    assert float(scope["result"].loss) == pytest.approx(25)
    assert float(scope["result"].logs["margin"]) == 0
    scope["result"].loss.backward()


def test_the_class_is_some_twenty_lines():
    assert len([line for line in BLOCKS[0].splitlines() if line]) <= 22
