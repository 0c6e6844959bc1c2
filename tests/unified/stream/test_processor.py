"""Pixels and actions <-> ids, and tokenizers that do not fit."""

import numpy as np
import pytest
import torch
from PIL import Image
from unified.tokenizers.action import ActionConfig, ActionTokenizer, complete
from unified.tokenizers.residual_vq import ResidualVQConfig, ResidualVQTokenizer
from unified.tokenizers.text import byte_tokenizer
from unified.tokenizers.vq import VQConfig, VQTokenizer

from unified.stream.processor import Processor
from unified.stream.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def processor():
    torch.manual_seed(0)
    visual, action = VQTokenizer(VQConfig()).eval(), ActionTokenizer()
    vocabulary = Vocabulary(visual=visual.codes, action=action.size, action_slots=action.slots)
    return Processor(vocabulary, byte_tokenizer(), visual, action)


def picture(height=32, width=32):
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_a_conversation_with_pixels_and_actions_round_trips(processor):
    action = complete({"forward": 1, "camera": [0.0, 0.0]})
    messages = [
        {"role": "user", "content": [{"type": "image", "image": picture()}, {"type": "text", "text": "?"}]},
        {"role": "user", "content": [{"type": "action", "action": action}]},
        {"role": "assistant", "content": [{"type": "image", "image": picture(16, 32)}]},
    ]
    ids = processor.encode(messages)
    back = processor.decode(ids)
    given, drawn = back[0]["content"][0], back[2]["content"][0]
    assert given["image"].shape == (32, 32, 3)
    assert given["image"].dtype == np.uint8
    assert "order" not in given
    assert (drawn["order"], drawn["shapes"][-1], drawn["shapes"][0]) == ("next_scale", [2, 4], [1, 1])
    assert drawn["image"].shape == (16, 32, 3)
    assert back[0]["content"][1] == {"type": "text", "text": "?"}
    assert back[1]["content"][0]["action"]["forward"] == 1
    codes = [
        [{k: v for k, v in i.items() if k not in ("image", "action")} for i in m["content"]] for m in back
    ]
    again = [{**m, "content": c} for m, c in zip(back, codes, strict=True)]
    assert processor.encode(again) == ids, "codes are accepted where pixels are"


def test_reading_and_drawing_give_the_same_final_codes(processor):
    given = processor.image_item(picture())
    drawn = processor.image_item(picture(), drawn=True)
    assert drawn["codes"][-len(given["codes"]) :] == given["codes"]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "I;16", "LA"])
def test_any_image_mode_is_taken(processor, mode):
    source = Image.new("I;16", (32, 32)) if mode == "I;16" else Image.fromarray(picture()).convert(mode)
    assert len(processor.image_item(source)["codes"]) == 16


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("cat.png", "cat.png: no such file"),
        (3, "an image is a PIL image, numpy array or torch tensor, got int"),
        (np.zeros((8, 8, 2), np.uint8), "channels"),
        (np.full((8, 8, 3), np.nan), "finite"),
        (np.zeros((2, 8, 8, 3), np.uint8), "one image at a time"),
        (np.zeros((0, 8, 3), np.uint8), "pixel"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(processor, image, message):
    with pytest.raises(ValueError, match=message) as refusal:
        processor.encode([{"role": "user", "content": [{"type": "image", "image": image}]}])
    assert "\n" not in str(refusal.value)


def test_tokenizers_that_do_not_fit_are_refused(processor):
    text, words = byte_tokenizer(), processor.vocabulary
    with pytest.raises(ValueError, match="has 256 codes, the vocabulary 64"):
        Processor(Vocabulary(), text, processor.visual)
    with pytest.raises(ValueError, match="the action tokenizer has"):
        Processor(Vocabulary(visual=256), text, processor.visual, processor.action)
    with pytest.raises(ValueError, match="'residual' does not read the maps that VQTokenizer"):
        Processor(words, text, processor.visual, processor.action, order="residual")
    with pytest.raises(ValueError, match="no visual tokenizer"):
        Processor(words, text).encode([{"role": "user", "content": [{"type": "image", "image": picture()}]}])


@pytest.mark.parametrize("order", ["raster", "diagonal"])
def test_one_tokenizer_serves_other_orders(processor, order):
    other = Processor(processor.vocabulary, byte_tokenizer(), processor.visual, order=order)
    item = other.image_item(picture(), drawn=True)
    read = processor.image_item(picture())
    assert item["codes"][-16:] == read["codes"]
    shown = other.decode(other.encode([{"role": "assistant", "content": [item]}]))[0]["content"][0]["image"]
    assert np.array_equal(shown, processor.picture(read))


@pytest.mark.parametrize("order", ["diagonal", "nar"])
def test_an_order_of_one_map_is_asked_for_the_last_alone(processor, order):
    """Without a list of sides: the ladder is for orders that write maps that grow."""
    assert Processor(processor.vocabulary, byte_tokenizer(), order=order).schedule((3, 4)) == ((3, 4),)
    assert len(Processor(processor.vocabulary, byte_tokenizer(), order="raster").schedule((3, 4))) > 1


def test_a_residual_tokenizer_reads_all_maps():
    torch.manual_seed(0)
    visual = ResidualVQTokenizer(ResidualVQConfig(sizes=(1, 2, 4))).eval()
    words = Vocabulary(visual=visual.codes)
    processor = Processor(words, byte_tokenizer(), visual, order="residual", sides=(1, 2))
    side = 4 * visual.stride
    drawn = processor.image_item(picture(side, side), drawn=True)
    given = processor.image_item(picture(side, side))
    assert given["codes"] == drawn["codes"]
    assert np.array_equal(processor.picture(given), processor.picture(drawn))


def test_frames_are_written_in_their_own_maps():
    torch.manual_seed(0)
    visual, action = VQTokenizer(VQConfig()).eval(), ActionTokenizer()
    vocabulary = Vocabulary(visual=visual.codes, action=action.size, action_slots=action.slots)
    processor = Processor(vocabulary, byte_tokenizer(), visual, action, frame_sides=())
    image, press = {"type": "image", "image": picture()}, complete({"forward": 1})
    act = {"type": "action", "action": press}
    talk = [
        {"role": "user", "content": [image, act]},
        {"role": "assistant", "content": [image, {"type": "text", "text": "and drawn freely:"}, image]},
        {"role": "user", "content": [act]},
        {"role": "assistant", "content": [image]},
    ]
    back = processor.decode(processor.encode(talk))
    shapes = [len(item["shapes"]) for message in back for item in message["content"] if "shapes" in item]
    assert shapes == [1, 1, 4, 1]
    assert back[1]["content"][0]["codes"] == back[1]["content"][2]["codes"][-16:]


@pytest.mark.parametrize("config", [ActionConfig(), ActionConfig.mineworld()], ids=["default", "published"])
def test_opposite_keys_are_found_in_ids_of_the_stream(config):
    action = ActionTokenizer(config)
    words = Vocabulary(action=action.size, action_slots=action.slots)
    processor = Processor(words, byte_tokenizer(), action=action)
    said, expected = (
        processor.turn({"role": "user", "content": [{"type": "action", "action": {key: 1, "jump": 1}}]})
        for key in ("back", "forward")
    )
    found = processor.opposite(torch.tensor([said[1:-1]]))
    assert found.tolist() == [expected[1:-1]]
