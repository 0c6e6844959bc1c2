"""Requests in free wording say what their data says: read back by the words alone."""

import re

import numpy as np
import pytest
from unified.tasks.grammar import expand
from unified.tasks.hand import AMERICAN, SHORTEST, Hand, slipped, typed
from unified.tasks.scenes import SceneConfig, naming
from unified.tasks.scenes.drawing import CATEGORIES, Prompt
from unified.tasks.scenes.editing import Edit
from unified.tasks.scenes.generate import HELD_OUT
from unified.tasks.scenes.questions import Query
from unified.tasks.scenes.relations import CELLS, cell
from unified.tasks.scenes.requests import request
from unified.tasks.scenes.scene import COLOURS, Filter, Scene
from unified.tasks.scenes.steps import editing_steps
from unified.tasks.scenes.turns import Maker, spoken_of

NO_SLIPS = Hand(slips=0.0)
WORDS = {
    **{word: ("size", value) for value, words in naming.SIZE_NAMES.items() for word in words},
    **{word: ("fill", value) for value, words in naming.FILL_NAMES.items() for word in words},
    **{word: ("colour", word) for word in COLOURS},
    **{word: ("colour", value) for value, words in naming.COLOUR_NAMES.items() for word in words},
    **{word: ("shape", value) for value, words in naming.SHAPE_NAMES.items() for word in words},
}
WORDS |= {naming.plural(word): slot for word, slot in WORDS.items() if slot[0] == "shape"}
SLOTS = re.compile(
    rf"\b({'|'.join(sorted(map(re.escape, [*WORDS, 'ring', 'rings']), key=len, reverse=True))})\b"
)
SIDES = {"top": 0, "upper": 0, "up": 0, "bottom": 2, "lower": 2, "down": 2}
COLUMNS = {"left": 0, "right": 2}


def slots(text):
    """What a text says of objects, and the rest of it."""
    text = " ".join(re.sub(r"\bcolou?r\b", "", british(text.lower())).split())
    said = []
    for word in SLOTS.findall(text):
        said += [("shape", "circle"), ("fill", "outline")] if word.startswith("ring") else [WORDS[word]]
    return sorted(said), SLOTS.sub(" ", text)


def british(text):
    for own, other in AMERICAN.items():
        text = text.replace(other, own)
    return text


def place_of(text, start=None):
    """The cell that words of place name; a side alone keeps the row or column of `start`."""
    words = re.findall(r"[a-z]+", text)
    row = next((SIDES[word] for word in words if word in SIDES), None)
    column = next((COLUMNS[word] for word in words if word in COLUMNS), None)
    at = (1, 1)
    if start and (row is None) != (column is None) and not {"middle", "centre"} & set(words):
        at = next((r, names.index(start)) for r, names in enumerate(CELLS) if start in names)
    return CELLS[at[0] if row is None else row][at[1] if column is None else column]


def turns(make, count, most=4, grounds=True):
    """Data of so many turns that `make(maker, rng, scene)` gives."""
    maker = Maker(
        split="train", least=1, most=most, textures=("plain",), categories=tuple(CATEGORIES), settled=0.5,
        stepwise=1.0, wording="free", grounds=grounds,
    )  # fmt: skip
    rng = np.random.default_rng(5)
    found = (make(maker, rng, maker.scene(rng)) for _ in range(count))
    return [turn.data for turn in found if turn is not None]


def drawn(maker, rng, scene):
    return maker.draw(rng)


def edited(maker, rng, scene):
    return maker.edit(rng, scene)


def questioned(maker, rng, scene):
    return maker.question(rng, scene)


def stated(*filters):
    return sorted(pair for wanted in filters for pair in wanted.stated().items())


def test_a_drawing_is_asked_for_with_all_its_slots():
    rng = np.random.default_rng(0)
    for data in turns(drawn, 120):
        prompt, text = Prompt.from_json(data["prompt"]), request(rng, data, hand=NO_SLIPS)
        assert (prompt.background or "") in british(text.lower())
        said, rest = slots(british(text).lower().replace(prompt.background or "?", ""))
        once = dict.fromkeys(each for each in prompt.demands)  # "three stars" says its slots once
        assert said == stated(*(each.wanted for each in once)), text
        if len(prompt.demands) == 1 and prompt.demands[0].cell:
            assert place_of(rest) == prompt.demands[0].cell, text


def test_an_edit_is_asked_for_with_all_its_slots():
    rng = np.random.default_rng(1)
    seen = set()
    for data in turns(edited, 120):
        edit, text = Edit.from_json(data["edit"]), request(rng, data, hand=NO_SLIPS)
        said, rest = slots(text)
        new = {
            "add": [Filter.of(item) for item in edit.new],
            "recolour": [Filter.of(item, ("colour",)) for item in edit.new],
            "resize": [Filter.of(item, ("size",)) for item in edit.new],
        }.get(edit.kind, [])
        relative = re.search(r"\b(bigger|larger|smaller|enlarge|shrink|up|down|reduce)\b", rest)
        new = [] if edit.kind == "resize" and relative else new
        twice = list(edit.wanted) * (2 if "other way round" in rest else 1)
        assert said in (stated(*edit.wanted, *new), stated(*twice, *new)), text
        if edit.kind in ("add", "move"):
            start = cell(edit.old[0]) if edit.old else None
            assert place_of(rest, start) == cell(edit.new[0]), text
        seen.add(edit.kind)
    assert len(seen) == 6


def test_a_question_names_its_subject_and_detail():
    rng = np.random.default_rng(2)
    told = {
        "left": "left",
        "right": "right",
        "above": "above|over|higher",
        "below": "below|under|beneath|lower",
    }
    for data in turns(questioned, 150):
        query, text = Query.from_json(data["query"]), request(rng, data, hand=NO_SLIPS)
        said, rest = slots(text)
        if query.kind not in ("size", "fill"):  # these may list all answers
            assert said == stated(query.subject, query.other), text
        if query.kind in ("relation", "neighbour"):
            assert re.search(rf"\b({told[query.detail]})", rest), text


def test_one_object_alone_may_be_called_it():
    edits = [Edit.from_json(data["edit"]) for data in turns(edited, 40, most=1)]
    unnamed = [edit for edit in edits if edit.wanted and not edit.wanted[0].stated()]
    assert len(unnamed) > 8
    steps = [editing_steps(edit, Scene(objects=edit.old)) for edit in unnamed]
    assert all("object? " in first.text for first, *_ in steps)


def test_a_pronoun_means_what_was_changed_last():
    rng, found = np.random.default_rng(6), 0
    maker = Maker(
        split="train", least=1, most=3, textures=("plain",), categories=tuple(CATEGORIES), settled=0.5,
        stepwise=1.0, wording="free",
    )  # fmt: skip
    for _ in range(60):
        first = maker.edit(rng, maker.scene(rng))
        then = first and maker.edit(rng, first.after, spoken_of(first))
        words = re.findall(r"[a-z]+", then.request.lower()) if then else []
        if "it" in words and then.data["edit"]["old"] and len(first.after.objects) > 1:
            found += 1
            assert then.data["edit"]["old"] == first.data["edit"]["new"]
    assert found


def test_no_other_split_speaks_of_held_out_pairs():
    held_out = [f"{colour} {shape}" for shape, colour in HELD_OUT]
    for data in [*turns(drawn, 25), *turns(questioned, 25), *turns(edited, 15)]:
        assert not any(pair in request(np.random.default_rng(0), data).lower() for pair in held_out)


def test_a_slip_is_one_key_in_a_longer_word():
    rng = np.random.default_rng(3)
    text = "Draw a small yellow triangle on the left."
    for _ in range(60):
        changed = [(a, b) for a, b in zip(text.split(), slipped(rng, text).split(), strict=True) if a != b]
        assert len(changed) <= 1
        for a, b in changed:
            assert len(a.strip(".")) >= SHORTEST
            assert (a[0], a[-1]) == (b[0], b[-1])
            assert abs(len(a) - len(b)) <= 1


def test_patterns_give_every_choice_and_keep_what_slots_hold():
    rng = np.random.default_rng(4)
    found = {expand(rng, "[please |]draw [a [big|small]|one] {what}", what="x[|]y") for _ in range(80)}
    assert found == {f"{p}draw {n} x[|]y" for p in ("please ", "") for n in ("a big", "a small", "one")}
    assert typed(rng, "go", Hand(small=0, bare=0, american=0, slips=0)) in ("Go.", "Go!")


@pytest.mark.parametrize("options", [{"wording": "loud"}, {"renderer": "oil"}])
def test_unknown_styles_are_refused(options):
    with pytest.raises(ValueError, match="must be one of"):
        SceneConfig(**options)
