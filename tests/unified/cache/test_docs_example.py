"""The example of docs/add_a_part.md, section "Add a cache policy", is run as it stands."""

import re
from pathlib import Path

from unified.cache.policy import POLICIES

PAGE = Path(__file__).resolve().parents[3] / "docs" / "add_a_part.md"
SECTION = PAGE.read_text().split("\n## Add a cache policy\n")[1].split("\n## ")[0]
BLOCKS = re.findall(r"```python\n(.*?)```", SECTION, flags=re.DOTALL)


def test_the_example_holds_what_it_says():
    scope: dict = {}
    try:
        for block in BLOCKS:
            exec(compile(block, str(PAGE), "exec"), scope)
    finally:
        POLICIES.pop("latest_steps", None)
    claimed = eval(re.search(r"^held  # (\{.*?\}):", BLOCKS[1], flags=re.MULTILINE)[1])
    assert scope["held"] == claimed
