"""`python -m unified.train erase`: a concept is taken out of a model, the rest stays."""

import hashlib
import re

import pytest
import torch
from unified.train.__main__ import main
from unified.train.erase import PROMPTS, erasure_pairs, parser, tune

from unified.layout.layout import Layout
from unified.pretrained import load_model

SMALL = ["--cpu", "--images", "8", "--size", "16", "--steps", "2", "--batch", "2", "--window", "4"]


def options(*more):
    return parser().parse_args(["--concept", "star", "--out", "-", *SMALL, *more])


def digest(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_the_command_writes_a_model_and_leaves_its_base_alone(smoke, tmp_path, capsys):
    before = digest(smoke / "model")
    given = ["erase", "--model", str(smoke / "model"), "--concept", "star", "--out", str(tmp_path), *SMALL]
    assert main(given) == 0
    assert f"wrote {tmp_path / 'model'}" in capsys.readouterr().out
    assert digest(smoke / "model") == before != digest(tmp_path / "model")
    load_model(tmp_path / "model")


def test_pairs_are_the_same_codes_after_two_prompts(smoke):
    model, processor = load_model(smoke / "model")
    pairs = erasure_pairs(model, processor, PROMPTS, options("--keep", "0.25"))
    said = [[processor.decode(list(ids))[0]["content"][0]["text"] for ids in pair] for pair in pairs]
    assert [one == other for one, other in said] == [True] * 2 + [False] * 6
    assert all("star" in one and "star" not in other for one, other in said[2:])
    replies = [
        [list(ids)[list(ids).index(processor.vocabulary.assistant) :] for ids in pair] for pair in pairs
    ]
    assert all(one == other for one, other in replies)


def test_the_concept_comes_to_say_what_the_other_prompt_says_and_less(smoke):
    model, processor = load_model(smoke / "model")
    said = options("--steps", "30", "--threshold", "0", "--keep", "0", "--learning-rate", "0.01")
    pairs = erasure_pairs(model, processor, PROMPTS, said)
    errors = tune(model, processor, pairs, said)
    assert sum(errors[-4:]) < 0.5 * sum(errors[:4])


def test_without_a_concept_nothing_is_learned(smoke):
    model, processor = load_model(smoke / "model")
    said = options("--concept", "circle", "--instead", "circle")
    pairs = erasure_pairs(model, processor, PROMPTS, said)
    ids = torch.tensor([list(pairs[0][0])])
    layout = Layout.of(ids, model.vocabulary)
    plain = model(ids, labels=layout.labels(ids), layout=layout, return_logits=False).loss
    assert max(tune(model, processor, pairs, said)) < 1e-10
    after = model(ids, labels=layout.labels(ids), layout=layout, return_logits=False).loss
    torch.testing.assert_close(plain, after)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--instead", "star"], "names the concept itself"),
        (["--images", "0"], "--images must be at least 1"),
        (["--keep", "1"], r"--keep must lie in \[0, 1\)"),
        (["--eta", "-1"], "eta and threshold must not be negative"),
        (["--size", "4096"], r"--size must lie in \[1, "),
        (["--model", "nowhere"], "nowhere"),
    ],
)
def test_bad_options_are_one_line(smoke, tmp_path, capsys, more, said):
    given = ["--model", str(smoke / "model"), "--concept", "star", "--out", str(tmp_path / "out")]
    assert main(["erase", *given, *SMALL, *more]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert re.search(said, error)


@pytest.mark.parametrize(
    ("text", "said"), [("\n", "no prompts"), ("Draw a {}.\nDraw it.", "prompt 2 has no {}")]
)
def test_bad_prompts_are_named(tmp_path, capsys, text, said):
    (tmp_path / "prompts.txt").write_text(text)
    given = ["erase", "--concept", "star", "--out", str(tmp_path / "out"), "--prompts"]
    assert main([*given, str(tmp_path / "prompts.txt")]) == 2
    assert said in capsys.readouterr().err
