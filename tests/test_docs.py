"""The pages are true: their Python runs as it stands, the example's order passes the tests of every order,
and the files in their tables exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("unified", "tokenizers", "envs", "tasks", "train", "eval", "tests", "docs")
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


def python_of(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), flags=re.DOTALL)


def test_the_readmes_python_prints_what_it_says(capsys):
    (block,) = python_of("README.md")
    (printed,) = re.findall(
        r"```python\n.*?```\n\n```text\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out == printed


def test_the_python_of_its_page_runs():
    """All blocks one after the other, as a reader would type them."""
    blocks = python_of("docs/use.md")
    assert len(blocks) >= 5
    scope: dict = {}
    for block in blocks:
        exec(compile(block, "docs/use.md", "exec"), scope)
    assert scope["picture"].shape == (32, 32, 3)


def test_every_cited_paper_is_on_the_page_of_papers():
    cited = re.compile(r"arXiv\s+(\d{4}\.\d{5})", re.IGNORECASE)
    files = [path for folder in FOLDERS[:6] for path in (ROOT / folder).rglob("*.py")]
    found = {number for path in files for number in cited.findall(path.read_text(encoding="utf-8"))}
    listed = set(cited.findall((ROOT / "docs" / "papers.md").read_text()))
    assert len(found) > 50
    assert found <= listed, f"not on docs/papers.md: {', '.join(sorted(found - listed))}"


def test_links_between_pages_lead_somewhere():
    """In the repository; those of the site are checked by `mkdocs build --strict`."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    pattern = re.compile(r"\]\((?!https?:)([^)#\s]+)")
    gone = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages
        for link in pattern.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]
    assert not gone


def test_the_page_of_models_runs():
    """What it shows of the Auto classes, with the shipped model."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "models.md").read_text(), flags=re.DOTALL)
    scope: dict = {}
    exec(compile(block, "docs/models.md", "exec"), scope)
    assert scope["answer"].shape[0] == 1


def tables(name: str) -> str:
    """The lines of a page's tables."""
    lines = (ROOT / name).read_text().splitlines()
    return "\n".join(line for line in lines if line.startswith("|"))


def paths(name: str) -> set[str]:
    """Files and folders of the repository that are named in backticks in a page's tables."""
    named = re.findall(r"`([\w./-]+)`", tables(name))
    return {path for path in named if path.split("/")[0] in FOLDERS and "/" in path}


@pytest.mark.parametrize(
    ("page", "least"),
    [
        ("docs/architecture.md", 60),
        ("docs/papers.md", 60),
        ("docs/add_a_part.md", 12),
        ("docs/models.md", 1),
    ],
)
def test_every_path_in_the_tables_exists(page, least):
    assert len(paths(page)) >= least
    missing = [path for path in paths(page) if not (ROOT / path).exists()]
    assert not missing, f"{page} names what is not there: {', '.join(sorted(missing))}"


def test_the_architecture_names_every_folder_of_the_core():
    folders = {f"unified/{path.parent.name}/" for path in (ROOT / "unified").glob("*/__init__.py")}
    rows = re.findall(
        r"^\| `(unified/\w+/)` \| .+ \| .+ \|$", tables("docs/architecture.md"), flags=re.MULTILINE
    )
    assert len(folders) > 8
    assert set(rows) == folders


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
