"""Text error rates, VTBench's images, and the suite on readers and tokenizers whose result is known."""

import random

import numpy as np
import pytest
import torch
from unified.eval.metrics.legibility import (
    ErrorRate,
    character_errors,
    edit_distance,
    pooled,
    vtbench_word_errors,
    word_errors,
)
from unified.eval.metrics.vtbench_images import Fitting, fitted, pooled_psnr, similarity, taken_back
from unified.eval.suites.vtbench import HEIGHTS, drawn, legibility, random_text
from unified.eval.text_reader import Tesseract


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("abc", "cab", 2), ("é", "e\u0301", 2)],
)
def test_edit_distance_of_known_pairs(a, b, distance):
    assert edit_distance(a, b) == edit_distance(b, a) == distance


def test_edit_distance_obeys_the_triangle():
    rng = random.Random(0)
    for _ in range(30):
        a, b, c = ("".join(rng.choices("ab", k=rng.randrange(6))) for _ in range(3))
        assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)


def test_rates_are_pooled_and_word_errors_of_vtbench_count_characters():
    assert pooled([character_errors("ab", "ab"), character_errors("x", "abcd")]) == ErrorRate(4, 6)
    assert vtbench_word_errors("", "some text") == ErrorRate(9, 2)
    assert word_errors("", "some text") == ErrorRate(2, 2)
    assert vtbench_word_errors("some \n text", "some text").errors == 0
    assert character_errors("some text", "").rate == 0
    assert pooled([]).rate == 0


def test_images_are_cut_padded_or_squashed():
    image = np.full((20, 30, 3), 255, np.uint8)
    assert fitted(image, 10, Fitting()).shape == (3, 10, 10)
    padded = fitted(image, 10, Fitting(center_crop=False, padding=True))
    assert padded.shape == (3, 10, 10)
    assert padded[:, 0].eq(-1).all()
    assert padded[:, 5].eq(1).all()
    assert fitted(image, -1, Fitting()).shape == (3, 20, 30)
    assert fitted(image, 10, Fitting(center_crop=False)).shape == (3, 20, 30)
    assert fitted(image, (7, 5), Fitting(lock_ratio=False, standardize=False)).max() == 1


def test_eight_bits_are_truncated():
    values = torch.tensor([-2.0, 0.0, 0.999, 2.0]).view(1, 1, 4).expand(3, 1, 4)
    assert taken_back(values)[0, :, 0].tolist() == [0, 127, 254, 255]
    assert taken_back(values, standardize=False)[0, :, 0].tolist() == [0, 0, 254, 255]


def test_pixel_metrics_of_known_errors():
    rng = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 3, 16, 14, generator=rng)
    assert pooled_psnr(truth * 0 + 0.1, truth * 0) == pytest.approx(20)
    assert similarity([(truth, truth)]) == pytest.approx(1, abs=1e-6)
    blurred = torch.nn.functional.avg_pool2d(truth, 3, 1, 1)
    assert similarity([(blurred, truth)]) < 0.9
    with pytest.raises(ValueError, match="more than 5 pixels"):
        similarity([(truth[..., :5], truth[..., :5])])


class Remembers:
    """Reads what it has seen drawn, letter by letter wrong where an image was changed."""

    def __init__(self, side, count):
        from unified.eval.measurement import DATA_SEED

        self.texts = {}
        for height in HEIGHTS:
            rng = np.random.default_rng([DATA_SEED, height])
            for text in [random_text(rng, side, height) for _ in range(count)]:
                self.texts[drawn(text, side, height).tobytes()] = text

    def read(self, image):
        return self.texts.get(image.tobytes(), "")


def test_the_suite_of_a_perfect_tokenizer_and_of_one_that_loses_all():
    reader = Remembers(32, 3)
    perfect = legibility(lambda images: images, reader, 32, 3).numbers
    lost = legibility(np.zeros_like, reader, 32, 3).numbers
    for height in map(str, HEIGHTS):
        assert perfect[height]["cer"] == perfect[height]["wer_vtbench"] == 0
        assert perfect[height]["psnr_pooled"] == 100
        assert lost[height]["cer"] == lost[height]["cer_vtbench"] == 1
        assert lost[height]["wer_vtbench"] >= 1
        assert lost[height]["cer_of_original"] == 0


def test_without_a_reader_the_rows_say_so(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ValueError, match="apt install tesseract-ocr"):
        Tesseract()
    result = legibility(lambda images: images, None, 32, 2, "Tesseract is not installed")
    assert all(row[3] == "Tesseract is not installed" for row in result.tables[0].rows)
    assert result.notes == ["Legibility was not measured: Tesseract is not installed."]


def test_the_program_is_given_a_picture_and_its_failure_is_one_line(tmp_path, monkeypatch):
    program = tmp_path / "tesseract"
    program.write_text(
        '#!/bin/sh\n[ "$4" = eng ] || { echo "no language" >&2; exit 1; }\nhead -c 4 | tail -c 3\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr("shutil.which", lambda name: str(program))
    image = np.zeros((8, 8, 3), np.uint8)
    assert Tesseract().read(image) == "PNG"
    with pytest.raises(ValueError, match="Tesseract failed: no language"):
        Tesseract("xyz").read(image)
