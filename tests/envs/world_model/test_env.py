"""The model as an environment: gymnasium's rules, seeds, saving and forking, bad input."""

import pickle
import warnings
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordVideo
from unified.envs.recordings import play
from unified.envs.world_model import WorldModelConfig, WorldModelEnv

from unified.decoding.sampling import Sampler


@pytest.fixture
def env(assistant, picture):
    return WorldModelEnv(assistant, picture())


def codes_of(env, actions, **reset):
    if reset:
        env.reset(**reset)
    return [env.step(action)[4]["codes"] for action in actions]


def same(one, other):
    return len(one) == len(other) and all(np.array_equal(*pair) for pair in zip(one, other, strict=True))


def test_gymnasium_accepts_it(env):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*symmetric and normalized.*")  # the camera, in degrees
        check_env(env, skip_render_check=True)


def test_a_bare_make_starts_in_the_voxel_world(assistant):
    from unified.envs.voxel import VoxelEnv

    env = gymnasium.make("unified/WorldModel-v0", model=assistant)
    assert env.unwrapped.assistant is assistant, "the weights are shared, not copied"
    assert env.spec.max_episode_steps == 256
    first, _ = env.reset(seed=5)
    drawn = int(np.random.default_rng(np.random.SeedSequence(5)).integers(2**31))
    assert np.array_equal(first["pov"], VoxelEnv(width=32, height=32).reset(seed=drawn)[0]["pov"])
    assert not np.array_equal(first["pov"], env.reset()[0]["pov"]), "the next episode starts elsewhere"
    assert np.array_equal(first["pov"], env.reset(seed=5)[0]["pov"])


def test_it_plays_like_any_other_environment(env, picture):
    actions = [{"forward": 1}, {"camera": [0, 10]}, {"attack": 1}]
    frames = play(env, actions, seed=3)
    assert frames.shape == (4, 32, 32, 3)
    assert np.array_equal(frames[0], picture())
    assert np.array_equal(frames, play(env, actions, seed=3))
    assert np.array_equal(env.render(), frames[-1])
    other = play(env, [{"back": 1}, *actions[1:]], seed=3)
    assert not np.array_equal(frames[1], other[1]), "actions matter"
    assert not np.array_equal(frames[1:], play(env, actions, seed=4)[1:]), "frames are sampled by default"


def test_the_seed_matters_only_with_temperature(assistant, picture):
    actions = [{"forward": 1}] * 3
    likeliest = WorldModelEnv(assistant, picture(), temperature=0.0)
    assert np.array_equal(play(likeliest, actions, seed=1), play(likeliest, actions, seed=2))


def test_greedy_it_is_the_imagination_of_the_assistant(assistant, picture):
    actions = [{"forward": 1}, {"jump": 1}]
    env = WorldModelEnv(assistant, picture(), temperature=0.0)
    assert np.array_equal(play(env, actions, seed=0)[1:], assistant.imagine(picture(), actions))


def test_the_sampler_is_a_setting(assistant, picture):
    given = WorldModelEnv(assistant, picture(), sampler=Sampler(temperature=0.7, top_p=0.8))
    assert same(
        codes_of(given, [{}] * 2, seed=1),
        codes_of(WorldModelEnv(assistant, picture()), [{}] * 2, seed=1),
    )
    blurred = WorldModelEnv(assistant, picture(), mean=True)
    crisp = WorldModelEnv(assistant, picture())
    assert not np.array_equal(play(blurred, [{}], seed=1)[1], play(crisp, [{}], seed=1)[1])


def test_info_has_codes_likelihood_and_entropy(env, assistant):
    env.reset(seed=0)
    observation, _, _, _, info = env.step({"forward": 1})
    item = {"codes": info["codes"].ravel().tolist(), "shapes": [info["codes"].shape]}
    assert np.array_equal(assistant.processor.picture(item), observation["pov"])
    state = env.get_state().dream
    words, processor = assistant.model.vocabulary, assistant.processor
    (ids, codes), plan = state.written[0], env.episodes.dream.plan
    content = [env.episodes.dream._item(state.read[0]), {"type": "action", "ids": list(ids)}]
    stream = processor.encode([{"role": "user", "content": content}], prompt=True)
    header = words.open_write(processor.order, plan.shapes, plan.data)
    written = [*stream, *header, *words.visual_ids(codes.tolist()), words.close]
    output = assistant.model(torch.tensor([written]))
    log_probs = output.log_probs[0, len(stream) + len(header) : -1]
    assert info["log_prob"] == pytest.approx(log_probs.sum().item(), rel=1e-3)
    assert 0 < info["entropy"] < np.log(words.visual)


# Saving and forking -------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.7, 0.0])
@pytest.mark.parametrize("before", [0, 5, 6])
def test_a_restored_state_goes_on_exactly(assistant, picture, walk, temperature, before):
    env = WorldModelEnv(assistant, picture(), temperature=temperature)
    codes_of(env, walk[:before], seed=1)
    state = env.get_state()
    expected = codes_of(env, walk[before : before + 4])
    stored = pickle.dumps(state)
    assert len(stored) < 50_000
    observation = env.set_state(pickle.loads(stored))
    assert np.array_equal(observation["pov"], state.frame)
    assert same(codes_of(env, walk[before : before + 4]), expected)
    assert env.step({})[4]["steps"] == before + 5
    other = WorldModelEnv(assistant, picture(), temperature=temperature)
    other.set_state(pickle.loads(stored))
    assert same(codes_of(other, walk[before : before + 4]), expected)


def test_forks_show_the_same_frames_after_the_same_actions(assistant, picture, walk):
    env = gymnasium.make("unified/WorldModel-v0", model=assistant, start=picture())
    codes_of(env, walk[:5], seed=1)
    forks = env.get_wrapper_attr("fork")(2)
    own = env.get_wrapper_attr("fork")(2, seed=9)
    expected = codes_of(env, walk[5:9])
    for fork in forks:
        assert fork.assistant is env.unwrapped.assistant
        assert same(codes_of(fork, walk[5:9]), expected)
    first, second = (codes_of(fork, walk[5:9]) for fork in own)
    assert not same(first, second), "with a seed every fork draws for itself"
    assert np.array_equal(forks[0].reset()[0]["pov"], forks[1].reset()[0]["pov"])


def test_forked_rows_show_the_same_frames(env, walk):
    codes_of(env, walk[:3], seed=1)
    rows = env.fork_rows(3)
    for action in walk[3:6]:
        expected = env.step(action)[4]["codes"]
        assert all(np.array_equal(row, expected) for row in rows.step([action] * 3)[4]["codes"])


def test_steps_are_taken_back_one_by_one(assistant, picture, walk):
    env = WorldModelEnv(assistant, picture(), undo=3)
    frames = [env.reset(seed=1)[0]["pov"], *(env.step(action)[0]["pov"] for action in walk[:6])]
    for step in (5, 4, 3):
        assert np.array_equal(env.step_back()["pov"], frames[step])
    with pytest.raises(ValueError, match="at most 3"):
        env.step_back()
    again = [env.step(action)[0]["pov"] for action in walk[3:6]]
    assert same(again, frames[4:])
    env.reset()
    with pytest.raises(ValueError, match="no step"):
        env.step_back()


def test_an_environment_is_pickled_with_its_episode(env, walk):
    codes_of(env, walk[:5], seed=1)
    other = pickle.loads(pickle.dumps(env))
    assert same(codes_of(other, walk[5:8]), codes_of(env, walk[5:8]))
    assert np.array_equal(other.reset()[0]["pov"], env.reset()[0]["pov"])


def test_it_runs_in_spawned_processes(assistant, picture, tmp_path):
    assistant.model.save_pretrained(tmp_path)
    assistant.processor.save_pretrained(tmp_path)
    make = partial(
        gymnasium.make,
        "unified.envs.registration:unified/WorldModel-v0",
        model=str(tmp_path),
        start=picture(),
        size=(32, 32),
    )
    rows = gymnasium.vector.AsyncVectorEnv([make], context="spawn")
    alone = make()
    assert np.array_equal(rows.reset(seed=4)[0]["pov"][0], alone.reset(seed=4)[0]["pov"])
    found = rows.step({name: np.array([value]) for name, value in alone.action_space.noop().items()})
    assert np.array_equal(found[4]["codes"][0], alone.step({})[4]["codes"])
    rows.close()


def test_the_cost_of_a_long_episode_stays_the_same(env, walk):
    env.reset(seed=0)
    held = []
    for step in range(36):
        env.step(walk[step % 24])
        session = env.episodes.dream.session
        row = session.rows[0]
        held.append(
            (
                session.context.cache.length,
                session.context.cache.stores[0].both.shape,
                session.context.cache.entries[0].table.shape,
                len(row.stream),
                session.context.cursors[0].position,
                len(pickle.dumps(env.get_state())) // 100,
            )
        )
    assert held[12:24] == held[24:36], "every window is as long as the one before"
    assert len({tuple(map(str, some)) for some in held[12:]}) <= 3


def test_a_video_is_recorded(env, tmp_path):
    pytest.importorskip("moviepy")
    recorded = RecordVideo(gymnasium.wrappers.TimeLimit(env, 3), str(tmp_path), disable_logger=True)
    play(recorded, [{"forward": 1}] * 3, seed=0)
    recorded.close()
    assert list(tmp_path.glob("*.mp4"))


# Ends and bad input -------------------------------------------------------------------------------------


def test_episodes_end_by_their_length(assistant, picture):
    env = WorldModelEnv(assistant, picture(), max_steps=2)
    env.reset()
    assert env.step({})[2:4] == (False, False)
    assert env.step({})[2:4] == (False, True)
    with pytest.raises(ResetNeeded):
        env.step({})
    env.reset()
    env.step({})
    state = env.get_state()
    assert env.step({})[3]
    env.set_state(state)
    for going_on in (env, *env.fork(1)):  # the count is part of the state
        assert going_on.step({})[2:4] == (False, True)


def test_a_reward_function_sees_both_frames_and_may_end_the_episode(assistant, picture):
    seen = []

    def reward_fn(previous, action, frame):
        seen.append((previous, action, frame))
        return float(action["forward"]), bool(action["jump"])

    env = WorldModelEnv(assistant, picture(), reward_fn=reward_fn)
    env.reset(seed=0)
    first, reward, terminated, truncated, _ = env.step({"forward": 1})
    assert (reward, terminated, truncated) == (1.0, False, False)
    second, reward, terminated, _, _ = env.step({"jump": 1})
    assert (reward, terminated) == (0.0, True)
    assert np.array_equal(seen[0][0], picture())
    assert np.array_equal(seen[1][0], first["pov"])
    assert np.array_equal(seen[1][2], second["pov"])
    with pytest.raises(ResetNeeded):
        env.step({})


@pytest.mark.parametrize(
    ("answer", "undo"),
    [(None, 0), ("7", 16), ((1.0, False, 3), 16), ([1.0], 0), (float("nan"), 0), ((-np.inf, True), 0)],
)
def test_a_reward_that_is_none_changes_nothing(assistant, picture, walk, answer, undo):
    answers = {}
    env = WorldModelEnv(assistant, picture(), reward_fn=lambda *_: answers.get("now", 1.0), undo=undo)
    expected = codes_of(env, walk[:8], seed=2)
    env.reset(seed=2)
    for action, codes in zip(walk[:8], expected, strict=True):  # also where the window is read anew
        answers["now"] = answer
        with pytest.raises(ValueError, match="reward_fn must return"):
            env.step(action)
        answers.clear()
        _, reward, _, _, info = env.step(action)
        assert reward == 1.0
        assert np.array_equal(info["codes"], codes)
    assert info["steps"] == 8


def test_a_bad_action_changes_nothing(env):
    actions = [{"forward": 1}, {"left": 1}]
    expected = play(env, actions, seed=0)
    env.reset(seed=0)
    for action, frame in zip(actions, expected[1:], strict=True):
        for bad in ({"fly": 1}, {"forward": 2}, {"camera": [0, 500]}, {"camera": [0, float("nan")]}, None):
            with pytest.raises(ValueError, match=r"unknown|must") as refusal:
                env.step(bad)
            assert "\n" not in str(refusal.value)
        assert np.array_equal(env.step(action)[0]["pov"], frame)


def test_a_bad_reset_changes_nothing(env, walk):
    codes_of(env, walk[:2], seed=1)
    other = pickle.loads(pickle.dumps(env))
    for options in ({"frames": []}, {"speed": 3}, {"start": "no_such.png"}):
        with pytest.raises(ValueError, match=r"."):
            env.reset(seed=7, options=options)
    assert same(codes_of(env, walk[2:5]), codes_of(other, walk[2:5]))
    assert np.array_equal(env.reset()[0]["pov"], other.reset()[0]["pov"])


def test_before_the_reset_and_after_the_end_it_says_so(assistant, picture):
    env = WorldModelEnv(assistant, picture())
    for call in (lambda: env.step({}), env.get_state, lambda: env.fork(1)):
        with pytest.raises(ResetNeeded, match="reset"):
            call()
    assert env.render() is None
    env.reset()
    state = env.get_state()
    env.close()
    env.close()
    clip = [picture()] * 2, [{}]
    calls = (
        env.reset,
        lambda: env.score(*clip),
        lambda: env.step({}),
        env.get_state,
        lambda: env.set_state(state),
        env.step_back,
        env.render,
    )
    for call in calls:
        with pytest.raises(ClosedEnvironmentError, match="closed"):
            call()


def test_bad_states_are_refused(env, assistant, picture):
    env.reset(seed=0)
    small = WorldModelEnv(assistant, picture(), size=(32, 16))
    small.reset()
    with pytest.raises(ValueError, match="must be what get_state"):
        env.set_state({"frame": 1})
    with pytest.raises(ValueError, match="frames"):
        env.set_state(small.get_state())
    for count in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="at least 1"):
            env.fork(count)
    for seed in (-1, 1.5, "one", 2**80):
        for call in (env.fork, env.fork_rows):
            with pytest.raises(ValueError, match="a seed must be"):
                call(1, seed=seed)
    env.step({})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 0}, "window"),
        ({"max_steps": -1}, "max_steps"),
        ({"size": (30, 30)}, "pixels"),
        ({"size": 32}, "height, width"),
        ({"size": "ab"}, "height, width"),
        ({"size": (32.0, 32)}, "height, width"),
        ({"undo": 10**30}, "undo"),
        ({"mean": "yes"}, "mean"),
        ({"config": 3}, "WorldModelConfig"),
        ({"render_mode": "human"}, "render_mode"),
        ({"temperature": -1.0}, "temperature"),
        ({"sampler": 0.7}, "Sampler"),
        ({"speed": 1}, "unknown setting"),
        ({"reward_fn": 1.0}, "reward_fn"),
        ({"config": WorldModelConfig(), "window": 2}, "not both"),
    ],
)
def test_bad_settings_are_refused(assistant, picture, settings, message):
    with pytest.raises(ValueError, match=message):
        WorldModelEnv(assistant, picture(), **settings)


def test_a_model_without_actions_or_frames_is_refused(assistant):
    from unified.apps.assistant import Assistant
    from unified.stream.processor import Processor

    old = assistant.processor
    mute = Processor(old.vocabulary, old.stream.text, old.visual)
    with pytest.raises(ValueError, match="action tokenizer"):
        WorldModelEnv(Assistant(assistant.model, mute, side=32))
    with pytest.raises(ValueError, match="visual tokenizer"):
        Assistant(assistant.model, Processor(old.vocabulary, old.stream.text, None, old.action), side=32)
