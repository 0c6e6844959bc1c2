"""Parameters and memory of the released models, as docs/models.md has them."""

from pathlib import Path

import pytest

from unified.checkpoints.__main__ import main
from unified.checkpoints.sizes import sizes

PAGE = Path(__file__).parents[3] / "docs" / "models.md"


@pytest.fixture(scope="module")
def counted():
    return {row.name: row for row in sizes()}


def test_parameters_are_those_that_were_published(counted):
    """arXiv 2404.02905 (310M, 600M, 1.0B, 2.0B, 2.3B), 2406.06525 (111M, 343M, 775M, 1.4B, 3.1B)."""
    published = {
        "VAR d16, 256 pixels": 310e6,
        "VAR d20, 256 pixels": 600e6,
        "VAR d24, 256 pixels": 1.0e9,
        "VAR d30, 256 pixels": 2.0e9,
        "VAR d36, 512 pixels": 2.3e9,
        "LlamaGen B, classes, 256 pixels": 111e6,
        "LlamaGen L, classes, 256 pixels": 343e6,
        "LlamaGen XL, classes, 384 pixels": 775e6,
        "LlamaGen XXL, classes, 384 pixels": 1.4e9,
        "LlamaGen 3B, classes, 384 pixels": 3.1e9,
    }
    for name, count in published.items():
        assert counted[name].parameters == pytest.approx(count, rel=0.05), name
    assert counted["Infinity 2b, 1024 pixels"].parameters == pytest.approx(2e9, rel=0.15)


def test_keys_and_values_of_an_image(counted):
    rows, kinds = 2, 2
    assert counted["VAR d16, 256 pixels"].cached == rows * kinds * 16 * 1024 * 680
    assert counted["Infinity 2b, 1024 pixels"].cached == rows * kinds * 32 * 2048 * 10521


def test_the_page_has_the_table_that_is_printed(capsys):
    assert main(["sizes"]) == 0
    assert capsys.readouterr().out in PAGE.read_text()
