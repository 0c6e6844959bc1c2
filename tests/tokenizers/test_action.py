"""Environment actions and recorder lines <-> ids."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from unified.tokenizers.action import (
    BUTTONS,
    GROUPS,
    HOTBAR,
    ActionConfig,
    ActionTokenizer,
    complete,
)

CONFIGS = {
    "default": ActionConfig(),
    "mineworld": ActionConfig.mineworld(),
    "vpt": ActionConfig(camera_bins=11, camera_binsize=2, camera_maxval=10, camera_mu=10, offset=100),
    "linear": ActionConfig(camera_bins=41, camera_binsize=4.5, camera_maxval=90, scheme="linear", offset=7),
}
NEVER_EMITTED = ("swapHands", "inventory", "ESC")


def line(*keys, dx=0.0, dy=0.0, buttons=()):
    """A recorder line with the given keys (without prefix) held down."""
    return {
        "mouse": {"dx": dx, "dy": dy, "buttons": list(buttons)},
        "keyboard": {"keys": [f"key.keyboard.{key}" for key in keys]},
    }


@st.composite
def environment_actions(draw):
    pressed = draw(st.sets(st.sampled_from(BUTTONS), max_size=6))
    angle = st.floats(-180, 180, allow_nan=False)
    return {**{name: int(name in pressed) for name in BUTTONS}, "camera": [draw(angle), draw(angle)]}


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def tokenizer(request):
    return ActionTokenizer(request.param)


@settings(max_examples=30, deadline=None)
@given(actions=st.lists(environment_actions(), min_size=1, max_size=5), name=st.sampled_from(sorted(CONFIGS)))
def test_decoded_ids_encode_to_the_same_ids(actions, name):
    tokenizer = ActionTokenizer(CONFIGS[name])
    ids = tokenizer.encode(actions)
    assert ids.shape == (len(actions), 11)
    assert ids.dtype == torch.int64
    assert torch.equal(tokenizer.encode(tokenizer.decode(ids)), ids)
    assert torch.equal(tokenizer.encode(tokenizer.decode_arrays(ids)), ids)
    for slot in range(11):
        assert set(ids[:, slot].tolist()) <= set(tokenizer.choices(slot))


@settings(max_examples=30, deadline=None)
@given(actions=st.lists(environment_actions(), min_size=1, max_size=5))
def test_a_list_and_a_batch_of_arrays_give_the_same_ids(actions):
    tokenizer = ActionTokenizer()
    batch = {name: np.array([action[name] for action in actions]) for name in (*BUTTONS, "camera")}
    assert torch.equal(tokenizer.encode(batch), tokenizer.encode(actions))
    single = torch.cat([tokenizer.encode(action) for action in actions])
    assert torch.equal(single, tokenizer.encode(actions))


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: "+".join(group[:2]))
def test_one_pressed_button_comes_back_and_two_of_a_pair_are_null(group):
    tokenizer = ActionTokenizer()
    for name in group:
        decoded = tokenizer.decode(tokenizer.encode([{name: 1}]))[0]
        assert [button for button in BUTTONS if decoded[button]] == [name]
    if len(group) == 2:
        assert torch.equal(tokenizer.encode([dict.fromkeys(group, 1)])[0], tokenizer.null)


def test_the_lowest_hotbar_key_wins_and_some_buttons_have_no_slot():
    tokenizer = ActionTokenizer()
    decoded = tokenizer.decode(tokenizer.encode([{"hotbar.7": 1, "hotbar.3": 1}]))[0]
    assert [name for name in HOTBAR if decoded[name]] == ["hotbar.3"]
    assert torch.equal(tokenizer.encode([dict.fromkeys(NEVER_EMITTED, 1)])[0], tokenizer.null)


def test_null_is_the_step_on_which_nothing_happens(tokenizer):
    action = tokenizer.decode(tokenizer.null)[0]
    assert not any(action[name] for name in BUTTONS)
    np.testing.assert_array_equal(action["camera"], [0, 0])
    assert torch.equal(tokenizer.encode([{}])[0], tokenizer.null)


def test_the_vocabulary_is_contiguous_and_starts_at_the_offset(tokenizer):
    ids = sorted(tokenizer.vocabulary.values())
    assert ids == list(range(tokenizer.config.offset, tokenizer.config.offset + tokenizer.size))
    assert tokenizer.size == 23 + 2 * tokenizer.config.camera_bins + 3
    assert ActionTokenizer(ActionConfig.mineworld()).size == 68


def test_bins_keep_their_centres_and_rise_with_the_angle(tokenizer):
    bins = np.arange(tokenizer.config.camera_bins)
    centres = tokenizer.degrees(bins)
    np.testing.assert_array_equal(tokenizer.bins(centres), bins)
    np.testing.assert_allclose(centres, -centres[::-1], atol=1e-12)
    angles = np.linspace(-200, 200, 4001)
    assert (np.diff(tokenizer.bins(angles)) >= 0).all()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_bins_follow_the_published_formula(config):
    """The same in plain Python: clip, mu-law, halves to the even bin."""
    maximum, mu = config.camera_maxval, config.camera_mu

    def expected(angle):
        u = min(max(angle, -maximum), maximum) / maximum
        if config.scheme == "mu_law":
            u = math.copysign(math.log(1 + mu * abs(u)) / math.log(1 + mu), u)
        return round((u * maximum + maximum) / config.camera_binsize)

    angles = np.random.default_rng(0).uniform(-1.2 * maximum, 1.2 * maximum, 2000)
    assert ActionTokenizer(config).bins(angles).tolist() == [expected(angle) for angle in angles.tolist()]


def test_the_mouse_scale_is_free():
    config = ActionConfig(mouse_to_degrees=0.3, whole_degrees=True)
    assert ActionTokenizer(config).from_recorder(line(dx=-10, dy=6.7))[0]["camera"].tolist() == [2, -3]


def test_our_default_keeps_fractions_of_a_degree():
    ours, published = ActionTokenizer(), ActionTokenizer(ActionConfig.mineworld())
    small = np.linspace(-1, 1, 20001)
    assert np.abs(ours.degrees(ours.bins(small)) - small).max() < 0.1
    assert len(set(ours.bins([0.0, 0.15, 0.3, 0.45]))) == 4  # one, two, three pixels of the mouse
    nudge = line(dx=2, dy=-1)  # 0.3 and -0.15 degrees
    kept = ours.decode(ours.encode([ours.from_recorder(nudge)[0]]))[0]["camera"]
    np.testing.assert_allclose(kept, [-0.15, 0.3], atol=0.05)
    assert published.from_recorder(nudge)[0]["camera"].tolist() == [0, 0]


@pytest.mark.parametrize(("pixels", "degrees"), [(6.66, 0), (6.67, 1), (-13.0, -1), (-13.34, -2)])
def test_the_published_conversion_truncates_toward_zero(pixels, degrees):
    action, is_null = ActionTokenizer(ActionConfig.mineworld()).from_recorder(line(dy=pixels))
    assert action["camera"].tolist() == [degrees, 0]
    assert not is_null


def test_contradicting_buttons_cancel_in_the_published_order():
    tokenizer = ActionTokenizer()
    action, _ = tokenizer.from_recorder(line("space", "left.shift", "left.control"))
    assert (action["jump"], action["sneak"], action["sprint"]) == (0, 0, 1)
    action, is_null = tokenizer.from_recorder(line("w", "s", buttons=[0, 1]))
    assert not any(action[name] for name in ("forward", "back", "attack", "use"))
    assert not is_null  # something was pressed, though nothing is left


@pytest.mark.parametrize(
    ("recorded", "is_null"),
    [
        (line(), True),
        (line("unknown"), True),
        (line(buttons=[7]), True),
        (line("w"), False),
        (line(dx=0.1), False),
        (line("w", "e"), True),
        (line("escape"), True),
    ],
)
def test_null_steps_are_those_without_activity_or_with_a_menu_key(recorded, is_null):
    assert ActionTokenizer().from_recorder(recorded)[1] is is_null


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({(0, 0): 5}, r"action 0, slot 0: id 5 may not stand in this slot"),
        ({(1, 4): 0}, r"action 1, slot 4: id 0 may not"),
        ({(1, 10): 9999}, r"action 1, slot 10: id 9999 is outside the 188 ids"),
        ({(0, 3): -1}, r"action 0, slot 3: id -1 is outside"),
    ],
)
def test_malformed_ids_are_refused_by_position(change, message):
    tokenizer = ActionTokenizer()
    ids = tokenizer.encode([{}, {"forward": 1}])
    for place, value in change.items():
        ids[place] = value
    with pytest.raises(ValueError, match=message):
        tokenizer.decode(ids)


@pytest.mark.parametrize(
    "ids", [np.zeros(10, int), np.zeros((2, 3, 11), int), np.zeros((2, 11)), [], ["a"] * 11]
)
def test_ids_of_a_wrong_shape_or_type_are_refused(ids):
    with pytest.raises(ValueError, match=r"integers \[N, 11\]"):
        ActionTokenizer().decode(ids)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([{}, {"fly": 1}], "action 1: unknown action key 'fly'"),
        ([{"camera": [0, float("nan")]}], "action 0: camera must be finite"),
        ([{"camera": [0, 1, 2]}], r"action 0: camera must have shape \[2\]"),
        ([{"camera": "left"}], "action 0: camera must be numbers"),
        ([{"jump": [1, 1]}], "button 'jump' must be one value per action"),
        (["jump"], "action 0: an action must be a dict"),
        ({"jump": [1, 0]}, "needs 'camera'"),
        ({"jump": [1, 0, 0], "camera": np.zeros((2, 2))}, "button 'jump' must be one value per action"),
        ({"camera": np.zeros((2, 3))}, "camera must have shape"),
        ({"camera": 1.0}, "camera must have shape"),
    ],
)
def test_bad_actions_are_refused_in_one_line(actions, message):
    with pytest.raises(ValueError, match=message) as refusal:
        ActionTokenizer().encode(actions)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("recorded", "field"),
    [
        ({}, "keyboard.keys"),
        ({"keyboard": {"keys": []}}, "mouse.buttons"),
        ({**line(), "mouse": {"dx": float("nan"), "dy": 0, "buttons": []}}, "mouse.dx"),
        ({**line(), "mouse": {"dx": 0, "dy": "1", "buttons": []}}, "mouse.dy"),
        ({**line(), "keyboard": {"keys": "w"}}, "keyboard.keys"),
        ([], "keyboard.keys"),
    ],
)
def test_a_malformed_recorder_line_names_its_field(recorded, field):
    with pytest.raises(ValueError, match=field):
        ActionTokenizer().from_recorder(recorded)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"camera_bins": 20}, "camera_bins must be at least 81"),
        ({"camera_mu": 0}, "camera_mu must be a positive number"),
        ({"camera_maxval": float("nan")}, "camera_maxval must be a positive number"),
        ({"scheme": "log"}, "scheme must be"),
        ({"offset": -1}, "offset must not be negative"),
    ],
)
def test_impossible_configurations_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ActionConfig(**settings)


def test_complete_fills_missing_keys_and_refuses_bad_values():
    action = complete({"jump": np.int64(1), "camera": [0.1, -2]})
    assert set(action) == {*BUTTONS, "camera"}
    assert action["jump"] == 1
    assert action["camera"].dtype == np.float32
    for bad in (
        {"jump": 2},
        {"jump": None},
        {"jump": "1"},
        {"camera": [0, 181]},
        {"camera": [[0, 0]]},
        {"x": 1},
    ):
        with pytest.raises(ValueError, match=r"must|unknown"):
            complete(bad)


@pytest.mark.parametrize(
    ("pressed", "other"),
    [
        ({"back": 1, "left": 1, "sneak": 1}, {"forward": 1, "right": 1, "sprint": 1}),
        ({"right": 1}, {"left": 1}),
        ({"forward": 1, "sprint": 1}, {"forward": 1, "sprint": 1}),
        ({}, {}),
    ],
)
def test_the_opposite_keys_are_pressed_and_all_else_stays(pressed, other):
    tokenizer = ActionTokenizer()
    rest = {"use": 1, "jump": 1, "hotbar.3": 1, "camera": (3.0, -7.0)}
    ids, expected = (tokenizer.encode([keys | rest]) for keys in (pressed, other))
    assert torch.equal(tokenizer.opposite(ids), expected)
