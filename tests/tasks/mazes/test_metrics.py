import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from unified.tasks.mazes.golden import main, verify_metrics
from unified.tasks.mazes.image_metrics import (
    ellipse,
    keep_large,
    last_image_verdict,
    last_image_verdict_corrected,
    layout_consistent,
    new_regions,
    path_masks,
)
from unified.tasks.mazes.maze import ACTIONS, neighbour, random_maze, random_walls, route
from unified.tasks.mazes.metrics import rates, rates_by_size, read_answer, score_text
from unified.tasks.mazes.render import draw_maze

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden" / "latent_sketchpad"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"golden vectors are not at {GOLDEN}")

# First and last set column of cv2.getStructuringElement(cv2.MORPH_ELLIPSE, ...), sides 7 and 11, as OpenCV
# 4.14 and 5.0 return them.
OPENCV_ROWS = {
    3: [(3, 3), (1, 5), (0, 6), (0, 6), (0, 6), (1, 5), (3, 3)],
    5: [(5, 5), (2, 8), (1, 9), (0, 10), (0, 10), (0, 10), (0, 10), (0, 10), (1, 9), (2, 8), (5, 5)],
}


@needs_golden
def test_metrics_agree_with_the_published_evaluator():
    assert verify_metrics(GOLDEN) == []


@needs_golden
def test_the_command_reports_each_case_and_finds_a_changed_one(tmp_path):
    for name in ("metrics.json", "metrics_images.safetensors"):
        shutil.copyfile(GOLDEN / name, tmp_path / name)
    cases = json.loads((tmp_path / "metrics.json").read_text())
    name = next(iter(cases["image_cases"]))
    cases["image_cases"][name]["layout_ok"] = not cases["image_cases"][name]["layout_ok"]
    (tmp_path / "metrics.json").write_text(json.dumps(cases))
    command = [sys.executable, "-m", "unified.tasks.mazes.golden", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert len(lines) == len(cases["text_cases"]) + len(cases["image_cases"])
    assert [line for line in lines if not line.endswith("agrees")] == [
        f"image {name}: layout_ok is True, expected False"
    ]


def test_the_command_refuses_an_unusable_folder(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    (tmp_path / "metrics.json").write_text("{}")
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 2
    assert all(line.startswith("error: ") for line in error)


@needs_golden
def test_the_correction_sees_the_spurious_branch_that_the_published_check_misses():
    from safetensors.numpy import load_file

    images = load_file(GOLDEN / "metrics_images.safetensors")
    branch = images["input"], images["label"], images["output.extra_branch"]
    assert not last_image_verdict(*branch).explore
    assert last_image_verdict_corrected(*branch).explore
    exact = images["input"], images["label"], images["output.exact"]
    assert last_image_verdict_corrected(*exact) == last_image_verdict(*exact)


@pytest.mark.parametrize("radius", OPENCV_ROWS)
def test_ellipses_are_those_of_opencv(radius):
    rows = [(int(np.flatnonzero(row)[0]), int(np.flatnonzero(row)[-1])) for row in ellipse(radius)]
    assert rows == OPENCV_ROWS[radius]
    assert all(
        row.sum() == last - first + 1 for row, (first, last) in zip(ellipse(radius), rows, strict=True)
    )


def blocks(*boxes):
    mask = np.zeros((224, 224), bool)
    for top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = True
    return mask


def test_region_filters_at_their_limits():
    none = blocks()
    assert new_regions(none, blocks((0, 0, 10, 10))).sum() == 100
    assert new_regions(none, blocks((0, 0, 9, 11))).sum() == 0
    # Touching at a corner joins regions with 8 neighbours, not with 4.
    corner = blocks((0, 0, 5, 10), (5, 10, 5, 10))
    assert new_regions(none, corner).sum() == 0
    assert keep_large(corner).sum() == 100
    assert keep_large(blocks((0, 0, 8, 10))).sum() == 80
    assert keep_large(blocks((0, 0, 9, 9))).sum() == 0
    assert keep_large(blocks((0, 0, 1, 79))).sum() == 0
    # Three pixels of tolerance around what was there before, also at the border.
    assert new_regions(blocks((0, 0, 224, 1)), blocks((0, 0, 224, 224))).sum() == 224 * 220


def test_missing_of_150_pixels_still_arrives_and_151_does_not():
    def solved(*boxes):
        image = np.full((224, 224, 3), 255, np.uint8)
        image[blocks(*boxes)] = (0, 0, 255)
        return image

    plain, whole = solved(), (100, 10, 10, 100)
    for lost, arrives in ((15, True), (16, False)):
        # The drawn path reaches 3 pixels further through the tolerance; the ellipse narrows at its tip.
        output = solved((100, 10, 10, 100 - lost - 3))
        missing = int(path_masks(plain, solved(whole), output).missing.sum())
        assert (missing <= 150) == arrives
        verdict = last_image_verdict(plain, solved(whole), output)
        assert verdict.arrived == arrives
        assert verdict.explore == (
            arrives and missing > 80
        )  # the published defect: missing counted as surplus


def reference_verdict(maze, label, output, corrected):
    """The description of the evaluator written again with other tools, one component at a time."""

    def small(image):
        return np.asarray(Image.fromarray(image).convert("RGBA").resize((224, 224), Image.LANCZOS))[..., :3]

    def kernel(radius):
        return np.array(
            [[first <= x <= last for x in range(2 * radius + 1)] for first, last in OPENCV_ROWS[radius]]
        )

    def regions(mask, connectivity):
        labels, count = ndimage.label(mask, ndimage.generate_binary_structure(2, connectivity))
        return [labels == index for index in range(1, count + 1)]

    def union(parts):
        return np.any([np.zeros((224, 224), bool), *parts], axis=0)

    def extra(a, b):
        fresh = b & ~ndimage.binary_dilation(a, np.ones((7, 7)))
        return union([part for part in regions(fresh, 1) if part.sum() >= 100])

    def large(mask):
        spans = [(part, np.ptp(np.argwhere(part), axis=0).max() + 1) for part in regions(mask, 2)]
        return union([part for part, span in spans if part.sum() >= 80 and span >= 10])

    before, n = small(maze), [(small(image) < 250).any(-1) for image in (maze, label, output)]
    disc = (abs(before.astype(int) - (255, 0, 0)) <= 5).all(-1)
    reference, drawn = extra(n[0], n[1]), extra(disc, extra(n[0] & ~disc, n[2]))
    missing = large(reference & ~ndimage.binary_dilation(drawn, kernel(3)))
    surplus = large(drawn & ~ndimage.binary_dilation(reference, kernel(5))) if corrected else large(missing)
    if missing.sum() > 150:
        return False, False, False
    touches = bool((surplus & ndimage.binary_dilation(disc, kernel(5))).any())
    many = surplus.sum() > 80
    return True, bool(many and touches), bool(many and not touches)


def spoiled_sketches(rng, maze, size):
    """The solved maze and several wrong answers."""
    path = route(maze)
    solved = draw_maze(maze, size, path)
    aside = [neighbour(cell, h) for cell in path for h in range(4) if maze.is_open(cell, h)]
    aside = [cell for cell in aside if cell not in path]
    shifted = np.roll(solved, rng.integers(-6, 7, 2), (0, 1))
    noisy = np.clip(solved + rng.normal(0, 12, solved.shape), 0, 255).astype(np.uint8)
    branched = solved.copy()
    if aside:
        nearest = next(cell for cell in path if abs(cell[0] - aside[0][0]) + abs(cell[1] - aside[0][1]) == 1)
        blue = (draw_maze(maze, size, [nearest, aside[0]]) == (0, 0, 255)).all(-1)
        branched[blue] = (0, 0, 255)
    return [solved, draw_maze(maze, size), draw_maze(maze, size, path[:-1]), branched, shifted, noisy]


@pytest.mark.parametrize("size", [64, 150, 224, 300])
def test_verdicts_equal_a_second_reading_of_the_description(size):
    rng = np.random.default_rng(size)
    for shape in ((3, 3), (3, 5), (8, 8)):
        maze = random_maze(rng, random_walls(rng, *shape))
        outputs = spoiled_sketches(rng, maze, size)
        for output in outputs:
            case = draw_maze(maze, size), outputs[0], output
            for judge, corrected in ((last_image_verdict, False), (last_image_verdict_corrected, True)):
                verdict = judge(*case)
                found = verdict.arrived, verdict.excess, verdict.explore
                assert found == reference_verdict(*case, corrected)


@pytest.mark.parametrize(
    "bad", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8), None]
)
def test_bad_images_are_refused_by_name(bad):
    good = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"label must be a uint8 array \[H, W, 3\]"):
        last_image_verdict(good, bad, good)
    with pytest.raises(ValueError, match="output must be"):
        layout_consistent(good, bad)


@given(label=st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=9), data=st.data())
def test_text_score_is_the_common_prefix_however_it_is_cut(label, data):
    kept = data.draw(st.integers(0, len(label)))
    output = [*label[:kept], *data.draw(st.lists(st.just("wait"), max_size=2))]
    cuts = sorted(data.draw(st.lists(st.integers(1, max(1, len(output) - 1)), max_size=3, unique=True)))
    bounds = [0, *[cut for cut in cuts if cut < len(output)], len(output)]
    pieces = [output[a:b] for a, b in pairwise(bounds) if a < b]
    inside = [" ,\n".join(piece) for piece in pieces]
    score = score_text(" so ".join(f"<actions> {actions}</actions>" for actions in inside), label)
    assert score.correct == kept
    assert score.accuracy == kept / len(label)
    if pieces:
        assert score.segments == pieces
        assert score.state_accuracy == min(kept, len(pieces[0])) / len(pieces[0])


def test_answers_and_missing_tags():
    assert read_answer("a <answer>Go Forward,turn left </answer><answer>x</answer>") == [
        "go forward",
        "turn left",
    ]
    assert read_answer("<answer>go\nforward</answer>") is None
    untagged = score_text("<answer>go forward</answer>", ["go forward"])
    assert (untagged.accuracy, untagged.answer_sequence, untagged.segments) == (0.0, None, [])
    empty = score_text("<actions></actions>", ["go forward"])
    assert (empty.accuracy, empty.next_state_len, empty.segments) == (0.0, 1, [[""]])
    with pytest.raises(ValueError, match="label has no actions"):
        score_text("<actions>go forward</actions>", [])


def test_rates_over_a_set_and_by_size():
    def score(success, progress, visual, images, consistent):
        return {
            "success": success,
            "progress": progress,
            "visual_success": visual,
            "images": images,
            "consistent_images": consistent,
        }

    scores = [score(1, 1, 1, 3, 3), score(0, 0.5, 0, 1, 0), score(0, 0.25, 1, 0, 0), score(1, 1, 0, 0, 0)]
    by_size = rates_by_size(scores, [(3, 5), (3, 5), (5, 3), [4, 4]])
    assert list(by_size) == ["all", "3x5", "4x4", "5x3"]
    total = by_size["all"]
    assert total == rates(scores)
    assert (total.success_rate, total.progress_rate, total.visual_success_rate) == (0.5, 0.6875, 0.5)
    assert total.layout_consistency_rate == 3 / 4  # over images, not over samples
    assert by_size["4x4"].layout_consistency_rate is None
    assert by_size["3x5"].samples == 2
    with pytest.raises(ValueError, match="no scores"):
        rates([])
    with pytest.raises(ValueError, match="one size per score"):
        rates_by_size(scores, [(3, 3)])
