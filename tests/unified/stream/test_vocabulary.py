"""Ids: nothing shifts when a vocabulary grows, old layouts stay, named ids of a tokenizer are no text."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from unified.tokenizers.text import byte_tokenizer

from unified.orders import ORDERS
from unified.stream.messages import Stream
from unified.stream.migration import migrated
from unified.stream.segments import segments
from unified.stream.vocabulary import CONTROL, DEFAULT_TAIL, ROLES, Vocabulary

FOUR = ("next_scale", "residual", "raster", "diagonal")
MORE = ("order:spiral", "continuous:depth", "reserved:0")
KINDS = [
    Vocabulary(),
    Vocabulary(orders=FOUR),
    Vocabulary(visual=2**32, action=0),
    Vocabulary(appended=()),
    Vocabulary(named={"end": 3, "user": 200}),
]


def meanings(words: Vocabulary, upto: int) -> list[str]:
    ends = {*range(words.visual_start + 2), *range(words.action_start - 2, words.size)}
    return [words.name(token) for token in sorted(ends) if token < upto]


@pytest.mark.parametrize("words", KINDS)
def test_adding_an_order_shifts_no_id(words):
    more = words.extended(*MORE)
    assert meanings(more, words.size) == meanings(words, words.size)
    assert [more.special[name] for name in MORE] == [words.size, words.size + 1, words.size + 2]
    assert more.order_names == (*words.order_names, "spiral")
    assert (more.extends(words), words.extends(more), more.extends(more)) == (True, False, True)
    assert more.table_size == words.table_size, "what can be predicted stays the same"
    assert more.extended("reserved:1").special["order:spiral"] == more.special["order:spiral"]


def test_ids_do_not_depend_on_what_is_registered(monkeypatch):
    before = Vocabulary()
    reordered = {"brand_new": ORDERS["raster"], **dict(reversed(ORDERS.items()))}
    for name in list(ORDERS):
        monkeypatch.delitem(ORDERS, name)
    for name, order in reordered.items():
        monkeypatch.setitem(ORDERS, name, order)
    assert Vocabulary() == before
    assert Vocabulary().special == before.special


@pytest.mark.parametrize("words", KINDS)
def test_ids_rows_and_names_fit_each_other(words):
    others = [*range(words.visual_start), *range(words.action_start, words.size)]
    ids = torch.tensor(others)
    rows = words.table_rows(ids)
    assert rows.tolist() == list(range(words.embedding_size))
    assert words.id_of_row(rows).tolist() == others
    assert words.embedding_size - words.table_size == len(words.tail)
    assert [words.name(token) for token in words.special.values()] == [f"<|{n}|>" for n in words.special]
    assert len(set(words.special.values())) == len(words.special)
    assert int(words.is_action(ids).sum()) == words.action
    assert not words.is_visual(ids).any()
    assert words.placeholders == {words.special[n]: n.split(":")[-1] for n in words.tail if n[0] == "c"}


@pytest.mark.parametrize("words", KINDS)
def test_plain_data_and_pickles_give_the_vocabulary_back(words):
    assert Vocabulary(**words.to_dict()) == words
    assert hash(Vocabulary(**words.to_dict())) == hash(words)
    assert pickle.loads(pickle.dumps(words)).special == words.special


def test_the_default_and_the_former_layout():
    assert Vocabulary().tail == DEFAULT_TAIL
    assert (Vocabulary().orders, Vocabulary().order_names) == ((), FOUR)
    former = Vocabulary(orders=FOUR)
    assert (former.tail, former.size) == ((), former.action_stop)
    assert former.special["order:next_scale"] == former.close + 1
    assert former.special["size:1"] == former.close + 5


def test_saved_configurations_of_the_former_form_are_migrated():
    old = {"head": "categorical", "vocabulary": {"text": 300, "orders": list(FOUR), "fold": 16}}
    new = migrated(old)
    assert new["head"] == "categorical"
    assert Vocabulary(**new["vocabulary"]) == Vocabulary(text=300, orders=FOUR, merge=16)
    assert "fold" in old["vocabulary"], "what is given is not changed"
    assert migrated(new) == new
    assert migrated({"order": "raster"}) == {"order": "raster"}
    current = {"vocabulary": Vocabulary().to_dict()}
    assert migrated(current) == current


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"appended": ("spiral",)}, "appended names 'spiral': use order:NAME"),
        ({"appended": ("order:raster", "order:raster")}, "orders must differ"),
        ({"orders": FOUR, "appended": ("order:raster",)}, "orders must differ"),
        ({"appended": ("reserved:0", "reserved:0")}, "must differ"),
        ({"named": {"stop": 3}}, "named has no control word 'stop'"),
        ({"named": {"end": 256}}, r"named gives 'end' the id 256, outside the text 0\.\.255"),
        ({"named": {"end": 3, "user": 3}}, "named ids must differ"),
        ({"merge": -1}, "merge must be at least 0"),
    ],
)
def test_vocabularies_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message) as refusal:
        Vocabulary(**fields)
    assert "\n" not in str(refusal.value)


def test_what_cannot_be_spelled_is_refused():
    with pytest.raises(ValueError, match="order 'spiral' is not in the vocabulary; it has next_scale"):
        Vocabulary().open_write("spiral", [(1, 1)])
    with pytest.raises(ValueError, match="no placeholder for latents: extend it by 'continuous'"):
        Vocabulary(orders=FOUR).placeholder("latents")
    words = Vocabulary().extended("reserved:0")
    with pytest.raises(ValueError, match=r"<\|reserved:0\|> at position 2 is reserved"):
        segments([words.begin, words.user, words.special["reserved:0"]], words)
    with pytest.raises(ValueError, match=r"<\|order:raster\|> at position 2 stands outside an image"):
        segments([words.begin, words.user, words.special["order:raster"]], words)


# Named ids --------------------------------------------------------------------------------------------------

SPELLED = {"pad": "<|endoftext|>", "user": "<|user|>", "end": "<|im_end|>", "read": "<|vision_start|>"}


def pretrained() -> tuple[Vocabulary, Stream]:
    """A text tokenizer with special tokens of its own, which the vocabulary names."""
    text = byte_tokenizer()
    text.add_special_tokens({"additional_special_tokens": [*SPELLED.values(), "<|other|>"]})
    named = {name: text.convert_tokens_to_ids(token) for name, token in SPELLED.items()}
    words = Vocabulary(text=len(text), visual=16, max_side=8, named=named)
    return words, Stream(words, text)


NAMED, STREAM = pretrained()


def test_named_ids_take_no_row_and_are_no_text():
    plain = Vocabulary(text=NAMED.text, visual=16, max_side=8)
    assert plain.size - NAMED.size == len(SPELLED)
    assert all(NAMED.special[name] < NAMED.text for name in SPELLED)
    assert [NAMED.is_text(NAMED.special[name]) for name in CONTROL] == [False] * len(CONTROL)
    assert NAMED.is_text(0)
    assert NAMED.name(NAMED.end) == "<|end|>"
    ids = STREAM.encode([{"role": "user", "content": "hé"}], prompt=True)
    assert STREAM.print(ids) == "<|begin|><|user|>hé<|end|><|assistant|>"


@pytest.mark.parametrize("spelled", [*SPELLED.values(), "<|other|>", "a<|im_end|>b", "<|im_end|>" * 3])
def test_text_that_spells_a_named_id_stays_text(spelled):
    messages = [{"role": "user", "content": [{"type": "text", "text": spelled}]}]
    ids = STREAM.encode(messages)
    assert all(NAMED.is_text(token) for token in ids[2:-1])
    assert STREAM.decode(ids) == messages


def test_a_named_id_that_plain_text_gives_is_refused():
    text = byte_tokenizer()
    words = Vocabulary(named={"end": text.convert_tokens_to_ids("A")})
    with pytest.raises(ValueError, match=r"message 0, item 0: .* control id \d+ \(<\|end\|>\)"):
        Stream(words, text).encode([{"role": "user", "content": "BAB"}])


pieces = st.lists(
    st.one_of(st.sampled_from([*SPELLED.values(), "<|", "|>"]), st.text(max_size=3)), max_size=4
)
items = st.one_of(
    st.builds(lambda parts: {"type": "text", "text": "".join(parts)}, pieces),
    st.builds(lambda n: {"type": "image", "codes": [n] * 4, "shapes": [[2, 2]]}, st.integers(0, 15)),
    st.just({"type": "action", "ids": [5] * 11}),
)
turns = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(ROLES),
    st.lists(items, max_size=4),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(turns, max_size=3))
def test_conversations_with_named_ids_round_trip(messages):
    ids = STREAM.encode(messages)
    assert STREAM.decode([*ids, NAMED.pad]) == messages
    ends = sum(token == NAMED.end for token in ids)
    assert ends == len(messages), "no text closes a turn"
