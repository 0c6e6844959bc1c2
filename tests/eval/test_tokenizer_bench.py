"""`unified eval tokenizer FOLDER ...`: tokenizers of every form in one table and one picture."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from unified.eval.metrics.lpips import ALEXNET, LPIPS, Activations
from unified.eval.tokenizer_bench import BenchConfig, Subject, bench, measured, named_paths
from unified.tokenizers.kinds import Wanted, kind_of

from unified.apps.cli import main
from unified.stream.visual_files import save_visual

TINY = Wanted(size=16, stride=4, codes=64, dim=4, tokens=16, frames=2)
FORMS = ("vq", "residual", "kl", "gigatok", "larp")


def made(kind):
    torch.manual_seed(0)
    return kind_of(kind).build(kind_of(kind).small(TINY)).eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizers")
    for kind in FORMS:
        save_visual(made(kind), root / kind)
    (root / "mine").mkdir()
    for number in range(3):
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(
            root / "mine" / f"{number}.png"
        )
    return root


@pytest.mark.slow
def test_all_forms_stand_in_one_table(folders, tmp_path, capsys):
    words = ["eval", "tokenizer", *(str(folders / kind) for kind in FORMS), "--count", "2", "--size", "16"]
    words += ["--data", f"own={folders / 'mine'}", "--out", str(tmp_path)]
    assert main(words) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    found = json.loads((tmp_path / "report.json").read_text())["suites"]["tokenizer"]["numbers"]["tokenizers"]
    assert set(found) == set(FORMS)
    assert set(found["vq"]) == {"scenes", "frames", "own"}  # mazes need more pixels, which is said
    assert set(found["larp"]) == {"clips", "own"}
    assert "mazes of 16 pixels are left out" in out
    assert found["vq"]["scenes"]["codes"] == 16
    assert found["residual"]["scenes"]["codes"] == 1 + 4 + 16
    assert found["vq"]["scenes"]["bits"] == 16 * 6
    assert found["kl"]["scenes"]["usage"] is None
    assert found["larp"]["clips"]["images"] == 4
    for kind in FORMS:
        assert f"| {kind} " in out
    assert Image.open(tmp_path / "tokenizer.png").height > 100


class Same(torch.nn.Module):
    """Latents that are the pixels."""

    codes, stride = 0, 1

    def latent(self, images):
        return images

    def decode_vectors(self, vectors):
        return vectors


def test_a_perfect_tokenizer_has_perfect_numbers():
    torch.manual_seed(0)
    widths = (64, 192, 384, 256, 256)
    linear = {f"lin{n}.model.1.weight": torch.rand(1, width, 1, 1) for n, width in enumerate(widths)}
    lpips = LPIPS(Activations(ALEXNET).state_dict(), linear)
    images = list(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8))
    found, shown = measured(Subject(Same(), 32), images, lpips)
    assert all(np.array_equal(a, b) for a, b in zip(shown, images, strict=True))
    assert found["psnr"].value == found["psnr_pooled"] == 100
    assert found["ssim"].value == pytest.approx(1)
    assert found["lpips-alexnet"].value == 0


class Reader:
    """Reads the share of black: text is the same where the pictures are."""

    def read(self, image):
        return f"{int((image < 128).sum())}"


def test_text_is_read_where_there_is_a_reader():
    result = bench({"same": Subject(Same(), 32)}, BenchConfig(count=2, reader=Reader()))
    text = result.tables[1]
    assert text.header[4] == "CER"
    for row in text.rows:
        assert row[4] == row[5]  # as legible as the original


def test_text_alone_is_a_suite_of_its_own():
    result = bench({"same": Subject(Same(), 32)}, BenchConfig(count=2, reader=Reader(), text_alone=True))
    assert [row[0] for row in result.tables[0].rows] == ["same"] * 3
    assert len(result.tables) == 1
    assert result.examples


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="Tesseract is not installed")
def test_tesseract_reads_what_a_perfect_tokenizer_gives_back():
    result = bench({"same": Subject(Same(), 96)}, BenchConfig(count=1, text_alone=True))
    for row in result.tables[0].rows:
        assert row[4] == row[5]  # as legible as the original
    assert result.tables[0].rows[2][4] < 0.5


def test_what_is_wrong_is_one_line(folders, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    for words, reason in (
        ([str(folders / "none")], "no such folder"),
        ([str(folders / "mine")], "neither visual_config.json nor"),
        ([str(folders / "vq"), "--size", "18"], "multiple of 4"),
        ([str(folders / "vq"), "--data", "nowhere"], "nowhere: no such file or folder"),
        ([str(folders / "larp"), "--suite", "vtbench"], "no text to be read"),
    ):
        assert main(["eval", "tokenizer", *words, *out]) == 2
        error = capsys.readouterr().err
        assert reason in error
        assert error.count("\n") == 1
    assert list(named_paths([str(folders / "mine")])) == ["mine"]
