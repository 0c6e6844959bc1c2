"""The example of docs/add_a_part.md is run as it stands, and its order passes the tests of every order."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "add_a_part.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def test_the_example_runs_and_prints_what_it_says(capsys):
    scope: dict = {}
    try:
        for block in BLOCKS:
            exec(compile(block, str(PAGE), "exec"), scope)
    finally:
        scope["ORDERS"].pop("checkerboard", None)
        scope.get("OBJECTIVES", {}).pop("ipo", None)
        scope.get("POLICIES", {}).pop("latest_steps", None)
    assert capsys.readouterr().out == "3 steps for 24 codes\n"
    order = BLOCKS[0].split("def checkerboard")[1]
    assert len(order.splitlines()) <= 30


def test_the_readmes_python_runs():
    """All its blocks one after the other, as a reader would type them."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(blocks) >= 3
    scope: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    assert scope["picture"].shape == (32, 32, 3)


def test_the_new_order_passes_every_test_of_orders(tmp_path):
    """The page's order, registered before the tests are collected."""
    (tmp_path / "with_checkerboard.py").write_text(BLOCKS[0])
    command = [sys.executable, "-m", "pytest", "-vv", "-p", "with_checkerboard", "-k", "checkerboard"]
    result = subprocess.run(
        [*command, "tests/unified/orders"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout[-2000:]
    for property_ in ("no_leak", "stepwise_cached", "packed_equals", "one_pass_likelihood"):
        assert re.search(rf"{property_}\w*\[[\w-]*checkerboard.*PASSED", result.stdout), property_
