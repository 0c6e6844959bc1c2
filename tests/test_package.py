"""The package as users meet it: imports, the command, the wheel's list of folders."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from unified.pretrained import SHIPPED

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments, cwd=ROOT):
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300)


def test_tokenizers_is_hugging_faces_from_the_root():
    result = run("-c", "import tokenizers; print(tokenizers.Tokenizer, tokenizers.__file__)")
    assert "site-packages" in result.stdout, result.stderr


def test_install_lines_name_this_distribution():
    """`unified` on the package index is somebody else's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "unified-multimodal"
    files = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml")]
    for folder in ("docs", "unified", "tokenizers", "envs", "tasks", "train", "eval"):
        files += [path for kind in ("*.py", "*.md") for path in (ROOT / folder).rglob(kind)]
    wrong = re.compile(r"""\bunified\[\w|pip install[^\n`]*[\s"']unified(?![-\w/.:])""")
    found = [str(path.relative_to(ROOT)) for path in files if wrong.search(path.read_text(encoding="utf-8"))]
    assert not found


def test_side_folders_have_no_init():
    for folder in ("tokenizers", "envs", "tasks", "train", "eval"):
        assert not (ROOT / folder / "__init__.py").exists()


def test_the_wheel_lists_every_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    listed = set(settings["packages"])
    sides = {f"unified.{name}": ROOT / name for name in ("tokenizers", "envs", "tasks", "train", "eval")}
    found = {"unified", *sides}
    for name, folder in {"unified": ROOT / "unified", **sides}.items():
        for path in folder.rglob("*.py"):
            parts = path.parent.relative_to(folder).parts
            found.add(".".join([name, *parts]))
    assert listed == found


def test_importing_needs_neither_gpu_nor_network_nor_extras():
    code = (
        "import sys\n"
        "blocked = 'numba', 'av', 'skimage', 'crafter', 'pygame', 'moviepy'\n"
        "for name in blocked: sys.modules[name] = None\n"
        "import unified.decoding.session, unified.model, unified.stream.processor\n"
        "import unified.checkpoints.var, unified.cli\n"
        "assert not {'flash_attn', 'minerl', 'trl'} & set(sys.modules)\n"
        "print('imported')"
    )
    result = run("-c", code)
    assert "imported" in result.stdout, result.stderr


def test_the_demo_writes_its_pictures_and_says_what_its_weights_are(tmp_path):
    result = run("-m", "unified.cli", "demo", "--out", str(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    shipped = (SHIPPED / "config.json").is_file()
    assert ("RANDOM" in result.stdout) != shipped
    for name in ("drawing.png", "contact_sheet.png", "walk.gif"):
        assert (tmp_path / "out" / name).stat().st_size > 1000
        assert name in result.stdout


@pytest.mark.parametrize("arguments", [["nonsense"], ["demo", "--seed", "x"], []])
def test_bad_commands_end_in_status_2(arguments):
    result = run("-m", "unified.cli", *arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    result = run("-m", "unified.cli", "demo", "--out", str(tmp_path / "file" / "x"))
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
