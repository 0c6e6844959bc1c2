"""A stream whose turns are spelled by a chat template: marks, openings, features among the text."""

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.layout.attention import attends
from unified.layout.layout import Layout
from unified.stream.base_words import FEATURES, PLACES, BaseWords, with_marks
from unified.stream.messages import Stream
from unified.stream.null_stream import null_stream
from unified.stream.segments import Kind
from unified.stream.vocabulary import Vocabulary

START, TURN, USER, MODEL, IMAGE, END = 250, 251, 252, 253, 254, 255  # bytes that no text of these tests has
FIRST = {"user": [START, TURN, USER], "system": [START, TURN, MODEL]}
FOLLOWING = {"user": [10, TURN, USER], "assistant": [10, TURN, MODEL]}


def vocabulary(**changes):
    base = BaseWords(image=IMAGE, first=FIRST, following=FOLLOWING, **changes)
    return Vocabulary(text=256, named={"end": END}, base=base)


WORDS = vocabulary()
TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]


def spelled(words):
    return [token for token in words if token not in WORDS.marks]


def test_turns_are_spelled_and_marked():
    stream = Stream(WORDS, byte_tokenizer())
    ids = stream.encode(TALK, prompt=False)
    said = [stream.text.encode(text) for text in ("hi", "yes")]
    plain = [START, TURN, USER, *said[0], END, 10, TURN, MODEL, *said[1], END]
    assert spelled(ids) == plain
    assert with_marks(plain, WORDS) == ids
    assert ids[0] == WORDS.begin
    assert ids[4] == WORDS.user
    decoded = [{**message, "content": message["content"][0]["text"]} for message in stream.decode(ids)]
    assert decoded == TALK


def test_a_turn_of_the_system_opens_the_conversation():
    stream = Stream(WORDS, byte_tokenizer())
    talk = [{"role": "system", "content": "be"}, *TALK]
    ids = stream.encode(talk)
    assert spelled(ids)[:3] == FIRST["system"]
    assert with_marks(spelled(ids), WORDS) == ids
    with pytest.raises(ValueError, match="no turn of the system"):
        stream.encode([*TALK, {"role": "system", "content": "be"}])


def test_the_null_stream_keeps_frames_and_features():
    ids = [WORDS.begin, *FIRST["user"], WORDS.user, 5, IMAGE, IMAGE, 6, END, *FOLLOWING["assistant"]]
    ids += [WORDS.assistant, 7, END]
    kept = [START, TURN, USER, IMAGE, IMAGE, END, *FOLLOWING["assistant"], END]
    assert spelled(null_stream(ids, WORDS)) == kept


@pytest.mark.parametrize("together", [False, True])
def test_features_see_one_another_where_the_model_says_so(together):
    words = vocabulary(together=together)
    layout = Layout.of([[5, IMAGE, IMAGE, IMAGE, 6]], words)
    seen = attends(layout.index, layout.index)[0]
    causal = torch.ones(5, 5).tril().bool()
    causal[1:4, 1:4] |= together
    assert torch.equal(seen, causal)
    assert layout.index.kind[0].tolist() == [Kind.TEXT, *[Kind.READ] * 3, Kind.TEXT]
    assert layout.positions[0, 0].tolist() == [0, 1, 2, 3, 4]


def test_places_say_where_features_stand_and_marks_stand_nowhere():
    places = torch.tensor([[0, 0, 0, 1, 2], [0, 0, 1, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 1, 1]]).float()
    ids = [[WORDS.begin, 5, WORDS.user, IMAGE, IMAGE, IMAGE, IMAGE, 6]]  # images of three features and of one
    layout = Layout.of(ids, WORDS, values={PLACES: places})
    assert layout.positions[:, 0].T.tolist()[1:2] == [[0, 0, 0]]
    assert layout.positions[:, 0, 3:].T.tolist() == [[1, 1, 1], [1, 1, 2], [1, 2, 1], [3, 3, 3], [4, 4, 4]]
    seen = attends(layout.index, layout.index)[0]
    marks = [0, 2]
    others = [1, 3, 4, 5, 6, 7]
    assert not seen[others][:, marks].any()
    assert torch.equal(seen[others][:, others], torch.ones(6, 6).tril().bool())
    assert layout.source[0, 3] == 1
    with pytest.raises(ValueError, match="4 image placeholders, there are 2 places"):
        Layout.of(ids, WORDS, values={PLACES: places[:2]})


def test_a_vocabulary_without_a_base_is_stored_as_before():
    assert "base" not in Vocabulary().to_dict()
    assert Vocabulary(**WORDS.to_dict()) == WORDS
    assert not Vocabulary().marks
    with pytest.raises(ValueError, match="reads text only"):
        Vocabulary(base=BaseWords()).placeholder(FEATURES)
