"""The verbs on a tiny random model: formats, sizes, seeds, bad input; conversations that are broken off."""

import doctest

import numpy as np
import pytest
import torch
from PIL import Image
from unified.train.transition import with_transition

import unified.apps.assistant
from unified.apps.answering import GenerationSettings, answers
from unified.apps.assistant import Assistant
from unified.apps.conversation import Conversation, Painted, Scale, Text
from unified.apps.demo import random_model
from unified.apps.loading import load
from unified.apps.pictures import fit, open_picture
from unified.apps.rollout import Player, Rollout
from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.pretrained import SHIPPED, save_model

SIDE = 32


@pytest.fixture(scope="module")
def parts():
    return random_model()


@pytest.fixture(scope="module")
def assistant(parts):
    return Assistant(*parts, side=SIDE)


def picture(seed=0, height=SIDE, width=SIDE):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# Verbs ----------------------------------------------------------------------------------------


def test_the_examples_run():
    results = doctest.testmod(unified.apps.assistant)
    assert results.attempted >= 6
    assert results.failed == 0


def test_the_same_seed_says_and_draws_the_same(parts, assistant):
    other = Assistant(*parts, side=SIDE, seed=7)
    first, again = (assistant.draw("Draw a circle.") for _ in range(2))
    assert np.array_equal(first, again)
    assert np.array_equal(first, other.draw("Draw a circle."))  # the likeliest, whatever the seed
    warm = [each.draw("Draw a circle.", temperature=1.0) for each in (assistant, assistant, other)]
    assert np.array_equal(warm[0], warm[1])
    assert not np.array_equal(warm[0], warm[2])
    with pytest.raises(ValueError, match="temperature"):
        assistant.draw("Draw a circle.", temperature=-1.0)
    assert assistant.ask("Who?", max_tokens=6) == assistant.ask("Who?", max_tokens=6)


def test_the_former_name_of_max_tokens_still_works_and_warns(assistant):
    with pytest.warns(DeprecationWarning, match="max_tokens"):
        answer = assistant.ask("Who?", most_tokens=2)
    assert answer == assistant.ask("Who?", max_tokens=2) != assistant.ask("Who?", max_tokens=20)
    with pytest.warns(DeprecationWarning, match="max_tokens"):
        assert assistant.chat(most_tokens=7).settings.max_tokens == 7
    assert assistant.chat(max_tokens=7).settings.max_tokens == 7


def test_the_prompt_the_picture_and_guidance_matter(assistant):
    drawn = assistant.draw("Draw a circle.")
    assert not np.array_equal(drawn, assistant.draw("Draw a square."))
    assert not np.array_equal(drawn, assistant.draw("Draw a circle.", guidance=6.0))
    edits = [assistant.edit(picture(seed), "Remove it.") for seed in (0, 1)]
    assert not np.array_equal(*edits)


@pytest.mark.parametrize("size", [(32, 32), (16, 48), (8, 8)])
def test_pictures_have_the_size_asked_for(assistant, size):
    assert assistant.draw("A star.", size=size).shape == (*size, 3)


def test_an_edit_has_the_shape_of_its_picture(assistant):
    assert assistant.edit(picture(height=60, width=120), "Turn it.").shape == (16, 32, 3)


def test_pictures_come_from_files_arrays_and_pillow(assistant, tmp_path):
    image = picture()
    Image.fromarray(image).save(tmp_path / "a.png")
    said = [
        assistant.ask("What?", image=source, max_tokens=5)
        for source in (image, Image.fromarray(image), tmp_path / "a.png", str(tmp_path / "a.png"))
    ]
    assert len(set(said)) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: a.draw("x", size=(30, 32)), "sides of 8, 16"),
        (lambda a: a.draw("x", size=(1024, 32)), "sides of 8, 16"),
        (lambda a: a.ask("x", image="nowhere.png"), "nowhere.png: no such file"),
        (lambda a: a.ask("\ud800"), "Unicode"),
        (lambda a: a.ask("word " * 10_000), "shorten it"),
        (lambda a: a.imagine(picture(), [{"fly": 1}]), "unknown action key 'fly'"),
        (lambda a: a.imagine([], []), "at least one frame"),
        (lambda a: a.edit(np.zeros((4, 4, 2), np.uint8), "x"), "channels"),
    ],
)
def test_bad_input_is_one_line(assistant, call, message):
    with pytest.raises(ValueError, match=message) as refusal:
        call(assistant)
    assert "\n" not in str(refusal.value)


def test_solving_draws_after_the_words_that_call_for_it(parts, assistant):
    """A random model does not say `</actions>`, so any letter it says is made the call."""
    model, processor = parts
    prompt = [{"role": "user", "content": [{"type": "text", "text": "Go."}]}]
    letters = GenerationSettings(allow_images=False, max_tokens=40)
    said = next(answers(model, processor, [prompt], assistant.shapes((32, 32)), letters))
    words = processor.stream.text.encode(said[0]["text"])
    calling = next(c for c in said[0]["text"] if c.isascii())
    settings = GenerationSettings(allow_images=False, max_tokens=40, image_after=calling, max_images=2)
    content = next(answers(model, processor, [prompt], assistant.shapes((32, 32)), settings))
    kinds = [item["type"] for item in content]
    assert "image" in kinds
    assert content[kinds.index("image") - 1]["text"].endswith(calling)
    assert kinds.count("image") <= 2
    assert words
    solution = assistant.solve(picture(), sketches=False)
    assert solution.sketches == []


def test_a_batch_answers_as_each_would_alone(parts, assistant):
    model, processor = parts
    prompts = [[{"role": "user", "content": text}] for text in ("A?", "A longer question?", "B?")]
    shapes = assistant.shapes((16, 16))
    for settings in (
        GenerationSettings(max_tokens=12, max_images=1, guidance=Constant(2.0)),
        GenerationSettings(image_only=True, guidance=Constant(2.0)),
        GenerationSettings(require_image=True, max_tokens=6, max_images=2, guidance=Constant(2.0)),
        GenerationSettings(max_tokens=10, allow_images=False),
    ):
        together = list(answers(model, processor, prompts, shapes, settings, batch=3))
        apart = list(answers(model, processor, prompts, shapes, settings, batch=1))
        for row, alone in zip(together, apart, strict=True):
            assert [item["type"] for item in row] == [item["type"] for item in alone]
            for item, other in zip(row, alone, strict=True):
                assert item.get("text") == other.get("text")
                assert item.get("codes") == other.get("codes")


def test_an_answer_that_must_draw_does_so_before_it_ends(parts, assistant, monkeypatch):
    """The model would end every turn at once: it speaks until its words run out, and then draws."""
    model, processor = parts
    words, said = model.vocabulary, model.text_logits

    def ending(hidden):
        logits = said(hidden)
        logits[..., words.end], logits[..., words.write] = 1e4, -1e4
        return logits

    monkeypatch.setattr(model, "text_logits", ending)
    prompts = [[{"role": "user", "content": text}] for text in ("A?", "B?")]
    shapes = assistant.shapes((16, 16))
    for tokens in (1, 5):
        free, bound = (GenerationSettings(require_image=must, max_tokens=tokens) for must in (False, True))
        assert list(answers(model, processor, prompts, shapes, free)) == [[], []]
        for content in answers(model, processor, prompts, shapes, bound):
            assert [item["type"] for item in content] == ["text", "image"]


def test_rows_that_may_not_draw_or_end_do_not(parts, monkeypatch):
    model, words = parts[0], parts[0].vocabulary
    session = Session(model, rows=3)
    session.feed([words.begin, words.user, words.end, words.assistant])
    for first, second in ((words.write, words.end), (words.end, words.write)):
        wanted = torch.zeros(words.table_size)
        wanted[first], wanted[second] = 2e4, 1e4
        monkeypatch.setattr(
            model, "text_logits", lambda hidden, said=wanted: said.expand(*hidden.shape[:-1], -1)
        )
        for _ in session.text(
            sampler=Sampler(temperature=0), max_tokens=2, draw=[True, False, False], end=[False, True, False]
        ):
            pass
        assert session.stopped() == ["write", "end", "length"]


# Worlds ----------------------------------------------------------------------------------------


def test_imagining_goes_on_from_known_frames(assistant):
    actions = [{"forward": 1}, {"camera": [0, 5]}, {"jump": 1}]
    frames = assistant.imagine(picture(), actions)
    assert frames.shape == (3, SIDE, SIDE, 3)
    assert np.array_equal(frames[:2], assistant.imagine(picture(), actions[:2]))
    known = assistant.imagine([picture(0), picture(1)], actions)
    assert known.shape[0] == 2
    assert assistant.imagine(picture(), []).shape == (0, SIDE, SIDE, 3)


def test_rows_of_a_rollout_do_not_see_each_other(parts):
    model, processor = parts
    both = Rollout(model, processor, [[picture(0)], [picture(1)]], seed=[5, 6])
    alone = Rollout(model, processor, [[picture(1)]], seed=[6])
    for _ in range(3):
        frames = both.step([{"forward": 1}, {"left": 1}])
        apart = frames[1:].astype(int) - alone.step([{"left": 1}])
        assert both.session.streams[1] == alone.session.streams[0]
        assert np.abs(apart).max() <= 1  # pictures of a batch are rounded after other sums


def test_a_rollout_remembers_only_its_window(parts):
    model, processor = parts
    rollout = Rollout(model, processor, [[picture()]], window=3)
    sizes = []
    for _ in range(12):
        rollout.step([{"forward": 1}])
        sizes.append(rollout.session.context.cache.length)
    assert sizes[2] > sizes[0]
    assert max(sizes) <= rollout.session.policy.size
    assert len(set(sizes[4:])) == 1


def test_frames_gone_on_from_are_set_off_against_the_opposite_keys():
    model, processor = random_model()
    model = with_transition(model, 8)
    for part in (model.extras["copy_gate"].gate, model.extras["transition"].exit):
        torch.nn.init.normal_(part.weight)

    def imagined(action, contrast):
        rollout = Rollout(model, processor, [[picture()]], contrast=contrast)
        frames = [rollout.step([action]), rollout.step([action])]
        return frames, rollout.session.rows[0].reference.vectors

    for action in ({"back": 1}, {"left": 1, "camera": [0, 5]}):
        (first, _), vectors = imagined(action, 0.0)
        (same, _), further = imagined(action, 20.0)
        assert np.array_equal(first, same)
        assert not torch.equal(vectors, further)
    for action in ({}, {"forward": 1, "camera": [3, 5]}):  # no key has an opposite
        torch.testing.assert_close(imagined(action, 0.0)[1], imagined(action, 20.0)[1])
    with pytest.raises(ValueError, match="temperature"):
        Rollout(model, processor, [[picture()]], sampler=Sampler(temperature=1), contrast=1.0)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="contrast"):
            imagined({}, wrong)
        with pytest.raises(ValueError, match="contrast"):
            GenerationSettings(visual_contrast=wrong)


def test_a_player_chooses_actions_an_environment_takes(parts):
    player = Player(*parts, "Collect logs.")
    for seed in range(3):
        action = player.act(picture(seed))
        assert len(action) == 24
        assert {value for name, value in action.items() if name != "camera"} <= {0, 1}
        assert np.abs(action["camera"]).max() <= 180


def same_actions(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one | other)


def test_rows_of_a_player_choose_what_single_players_do(parts):
    tasks = ["Collect logs.", "Walk to the red and white post.", "Explore."]
    rows = Player(*parts, tasks, rows=3, seed=4)
    alone = [Player(*parts, task, seed=4 + row) for row, task in enumerate(tasks)]
    over = {1: (2, 3), 2: (0,)}  # row 1 waits twice, then begins another episode; row 2 begins later
    chosen = []
    for step in range(6):
        frames = [None if step in over.get(row, ()) else picture(10 * row + step) for row in range(3)]
        found = rows.act_rows(frames)
        for row, (frame, action) in enumerate(zip(frames, found, strict=True)):
            expected = alone[row].act_rows([frame])[0]
            assert (frame is None) == (action is None) == (expected is None)
            if action is not None:
                assert same_actions(action, expected)
        chosen.append(found[0])
    assert any(not same_actions(chosen[0], other) for other in chosen[1:]), "actions are sampled"
    with pytest.raises(ValueError, match="3 rows need"):
        rows.act_rows([picture()])
    with pytest.raises(ValueError, match="3 rows need as many tasks"):
        Player(*parts, tasks[:2], rows=3)


def test_the_assistant_acts_greedily_and_its_player_samples(parts):
    first, other = (Assistant(*parts, side=SIDE, seed=seed) for seed in (1, 2))
    assert same_actions(first.act(picture()), other.act(picture()))
    assert not same_actions(first.player().act(picture()), other.player().act(picture()))
    assert same_actions(first.player().act(picture()), first.player().act(picture()))


# Pictures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1"])
def test_every_kind_of_picture_file_is_read(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(picture()).convert(mode).save(path)
    assert open_picture(path).image.shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("order", ["next_scale", "raster"])
def test_the_mean_of_what_may_come_is_shown_and_the_likeliest_is_gone_on_from(order):
    model, processor = random_model()
    processor.order = order
    mean = Rollout(model, processor, [[picture()]])
    likeliest = Rollout(model, processor, [[picture()]], mean=False)
    for action in ({"forward": 1}, {"left": 1}):
        soft, hard = mean.step([action]), likeliest.step([action])
        assert not np.array_equal(soft, hard)
        assert mean.session.streams == likeliest.session.streams
    model.head.projection.weight.data.mul_(1e6)  # sure of every code (no near ties), the mean is that code
    mean, likeliest = (Rollout(model, processor, [[picture()]], mean=flag) for flag in (True, False))
    apart = mean.step([{"jump": 1}]).astype(int) - likeliest.step([{"jump": 1}])
    assert np.abs(apart).max() <= 1


def test_the_mean_needs_one_softmax_over_codes():
    model, processor = random_model()
    model.head.symbols = 4
    with pytest.raises(ValueError, match="one codebook"):
        Rollout(model, processor, [[picture()]], mean=True)
    assert not Rollout(model, processor, [[picture()]]).mean


def test_frames_drawn_with_a_temperature_are_shown_as_drawn(parts):
    assert Rollout(*parts, [[picture()]], sampler=Sampler(temperature=0)).mean
    assert not Rollout(*parts, [[picture()]], sampler=Sampler(temperature=1)).mean


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.fromarray(np.full((16, 16, 3), level, np.uint8)) for level in (0, 120, 255)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    opened = open_picture(tmp_path / "a.gif")
    assert opened.image.max() == 0
    assert opened.note == "a.gif: the first of 3 frames"


def test_files_that_are_no_pictures_are_one_line(tmp_path):
    Image.fromarray(picture(height=200, width=200)).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.new("1", (20_000, 10_000)).save(tmp_path / "huge.png")
    for name in ("cut.png", "text.png", "empty.png", "huge.png", "missing.png"):
        with pytest.raises(ValueError, match=name) as refusal:
            open_picture(tmp_path / name)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (2000, 3000), (1, 500), (500, 1), (7, 5)])
def test_pictures_are_fitted(height, width):
    found = fit(picture(height=height, width=width), 64, 8)
    assert max(found.shape[:2]) == 64
    assert min(found.shape[:2]) >= 8
    assert all(side % 8 == 0 for side in found.shape[:2])
    if (height, width) == (64, 64):
        assert np.array_equal(found, picture(height=64, width=64))


# Loading ----------------------------------------------------------------------------------------


def test_a_saved_model_answers_as_before(assistant, parts, tmp_path):
    save_model(tmp_path, *parts)
    loaded = load(tmp_path, device="cpu", dtype="float32")
    loaded.side = SIDE
    assert np.array_equal(loaded.draw("A heart."), assistant.draw("A heart."))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "abacus"}, "device 'abacus' is not available"),
        ({"dtype": "float3"}, "unknown dtype 'float3'"),
        ({"model": "/nowhere/at/all"}, "no such model folder"),
    ],
)
def test_loading_says_what_is_wrong(parts, tmp_path, options, message):
    save_model(tmp_path, *parts)
    with pytest.raises(ValueError, match=message):
        load(**{"model": tmp_path, "device": "cpu", **options})


def test_without_shipped_weights_loading_is_one_clear_sentence():
    if (SHIPPED / "config.json").is_file():
        assert load().ask("Hello!", max_tokens=4) is not None
    else:
        with pytest.raises(ValueError, match="no trained weights are shipped"):
            load()


# Conversations ----------------------------------------------------------------------------------------


@pytest.fixture
def talk(parts, assistant):
    settings = GenerationSettings(max_tokens=12, max_images=1)
    return Conversation(*parts, shapes=assistant.shapes((16, 16)), settings=settings)


def test_events_add_up_to_what_is_remembered(talk, parts):
    text, images, scales = "", [], []
    for event in talk.say("Hello.", image_only=False, allow_images=False):
        text += event.text
    for event in talk.say("Draw.", image_only=True):
        if isinstance(event, Scale):
            scales.append(event)
        elif isinstance(event, Painted):
            images.append(event.image)
    remembered = talk.messages()
    assert [message["role"] for message in remembered] == ["user", "assistant"] * 2
    assert remembered[1]["content"][0]["text"].startswith(text[:3])
    assert np.array_equal(remembered[3]["content"][0]["image"], images[0])
    assert [(scale.step, scale.steps) for scale in scales] == [(1, 2), (2, 2)]
    assert np.array_equal(scales[-1].image, images[0])


def test_pieces_of_text_are_whole_characters(talk, parts):
    from unified.apps.conversation import _Speech

    processor = parts[1]
    said = "Grüße, 猫 🙂!"
    speech = _Speech(processor)
    pieces = [speech.hear(token) for token in processor.stream.text.encode(said)]
    assert "".join(pieces) == said
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("draws", [False, True])
def test_an_answer_broken_off_leaves_a_conversation_that_goes_on(talk, steps, draws):
    for _ in talk.say("First.", allow_images=False):
        pass
    before = len(talk.messages())
    events = talk.say("Second.", image_only=draws, allow_images=False)
    for _, _event in zip(range(steps), events, strict=False):
        pass
    events.close()
    if steps:
        assert [m["role"] for m in talk.messages()][before:] == ["user", "assistant"]
    for _ in talk.say("Third.", allow_images=False):
        pass
    assert talk.messages()[-2]["content"][0]["text"] == "Third."


def test_ctrl_c_inside_the_model_loses_nothing(talk, parts, monkeypatch):
    for _ in talk.say("First.", allow_images=False):
        pass
    model = parts[0]
    hidden, calls = model.hidden, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 4:
            hidden(*arguments, **options)  # keys and values are half written
            raise KeyboardInterrupt
        return hidden(*arguments, **options)

    monkeypatch.setattr(model, "hidden", interrupted)
    with pytest.raises(KeyboardInterrupt):
        for _ in talk.say("Second.", allow_images=False):
            pass
    monkeypatch.undo()
    assert [m["content"][0]["text"] for m in talk.messages()[::2]] == ["First.", "Second."]
    answer = "".join(
        event.text for event in talk.say("Third.", allow_images=False) if isinstance(event, Text)
    )
    assert answer


@pytest.mark.parametrize(("text", "message"), [("", "nothing was said"), ("word " * 10_000, "shorten it")])
def test_a_refused_message_changes_nothing(talk, text, message):
    for _ in talk.say("First.", allow_images=False):
        pass
    ids = list(talk.ids)
    with pytest.raises(ValueError, match=message):
        talk.say(text)
    assert talk.ids == ids


def test_a_long_conversation_forgets_its_oldest_turns(parts, assistant):
    settings = GenerationSettings(max_tokens=8, allow_images=False)
    talk = Conversation(*parts, shapes=assistant.shapes((16, 16)), settings=settings, longest=200)
    for number in range(12):
        for _ in talk.say(f"Message number {number}."):
            pass
    messages = talk.messages()
    assert talk.forgotten > 0
    assert messages[-2]["content"][0]["text"] == "Message number 11."
    assert len(talk.ids) <= 200
    assert talk.forgotten + len(messages) // 2 == 12
