"""The README's film, chat and figures: pages equal what their JSON makes, verdicts hold on known pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from unified.eval.media.__main__ import main, shipped_hash
from unified.eval.media.figures import MISSING, OUTSIDE, OWN, table
from unified.eval.media.film import HEIGHT, WIDTH, save_film
from unified.eval.media.readme import TOUR, filled, pages
from unified.eval.media.requests import counted, repainted, says, shows
from unified.eval.media.tour import Shot, drawn
from unified.tasks.scenes.render import render
from unified.tasks.scenes.scene import Filter, Scene, SceneObject

from unified.apps.assistant import Assistant
from unified.apps.demo import random_model
from unified.pretrained import SHIPPED

ROOT = Path(__file__).resolve().parents[2]
STAR = SceneObject(shape="star", colour="blue", size="large", fill="solid", x=0.25, y=0.3)
MOON = SceneObject(shape="moon", colour="red", size="large", fill="solid", x=0.7, y=0.7)
SCENE = Scene(objects=(STAR, MOON))


def test_pages_have_the_blocks_that_their_json_makes():
    for page, text in pages(ROOT).items():
        assert page.read_text() == text, f"{page.name}: python -m unified.eval.media --figures"


def test_the_film_is_small_and_of_the_shipped_weights():
    assert (ROOT / "docs" / TOUR).with_suffix(".gif").stat().st_size < 1.5e6
    if (SHIPPED / "config.json").is_file():
        assert json.loads((ROOT / "docs" / TOUR).read_text())["weights"] == shipped_hash(), (
            "make readme-media"
        )


def test_figures_without_a_report_are_not_measured(tmp_path):
    assert table(tmp_path)[2].count(MISSING) == 3
    numbers = {"by_kind": {"questions": {"value": 0.5}}}
    for path, text in ((OWN, {"suites": {}}), (OUTSIDE, {"suites": {"ood": {"numbers": numbers}}})):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(json.dumps(text))
    wanted = f"| questions about a picture | {MISSING} | 50.0 % | {MISSING} (the picture removed) |"
    assert table(tmp_path)[2] == wanted


def test_blocks_are_filled_and_missing_markers_are_told():
    page = "a\n<!-- x -->\nold\n<!-- end of x -->\nb\n"
    assert filled(page, {"x": ["new", "lines"]}) == "a\n<!-- x -->\nnew\nlines\n<!-- end of x -->\nb\n"
    with pytest.raises(ValueError, match="no markers <!-- y -->"):
        filled(page, {"y": []})


def test_a_folder_without_the_tour_is_one_line(tmp_path, capsys):
    assert main(["--figures", "--root", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_verdicts_are_those_of_known_pictures():
    picture = render(SCENE, 64)
    both = Filter(shape="star", colour="blue"), Filter(shape="moon", colour="red")
    assert shows(*both)("", picture)
    assert not shows(both[0])("", picture)  # another object stands there too
    assert not shows(*both)("", None)
    change = repainted(SCENE)
    assert change.words == "Could you turn the blue star orange?"
    assert not change.judge("", picture)
    orange = Scene(objects=(SceneObject(**{**vars(STAR), "colour": "orange"}), MOON))
    assert change.judge("", render(orange, 64))


@pytest.mark.parametrize(
    ("said", "drawn", "right"),
    [("Two.", False, True), ("2", False, True), ("12", False, False), ("two", True, False)],
)
def test_an_answer_is_words_alone(said, drawn, right):
    picture = render(SCENE, 64) if drawn else None
    assert counted(SCENE).judge(said, picture) == right
    assert says("draw")("I can draw.", None)


def test_the_film_shows_every_picture_in_its_own_colours(tmp_path):
    picture = render(SCENE, 32)
    shot = Shot(
        verb="draw",
        words="x " * 80,
        given=picture,
        made=[picture] * 2,
        right=True,
        rule="r",
        rights=(True, False),
    )
    words = Shot(verb="ask", words="?", given=picture, said="blue " * 40, right=False, rule="r")
    save_film([shot, words], tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as film:
        assert film.size == (WIDTH, HEIGHT)
        assert film.n_frames == 6
        film.seek(1)
        colours = np.asarray(film.convert("RGB")).reshape(-1, 3).astype(int)
    for wanted in ((36, 72, 216), (214, 36, 42)):
        assert np.abs(colours - wanted).sum(axis=1).min() < 24


def test_a_drawing_is_shown_map_by_map():
    found = drawn(Assistant(*random_model(), side=32), "Draw a red circle.")
    assert len(found) > 2
    assert found[-1].shape == (32, 32, 3)
