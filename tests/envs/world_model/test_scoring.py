"""Likelihood and reward of known clips."""

import numpy as np
import pytest
import torch
from unified.envs.world_model import WorldModelEnv
from unified.envs.world_model.scoring import score

from unified.layout.layout import Layout
from unified.stream.segments import Kind


def reward_fn(previous, action, frame):
    return float(frame.mean() - previous.mean()), bool(action["jump"])


@pytest.fixture
def env(assistant, picture):
    return WorldModelEnv(assistant, picture(), reward_fn=reward_fn)


@pytest.fixture
def clip(picture, walk):
    return [picture(seed) for seed in range(4)], walk[:3]


def test_it_is_the_models_likelihood_in_one_pass(env, assistant, clip):
    frames, actions = clip
    messages = []
    for number, action in enumerate(actions):
        content = [{"type": "action", "action": env.action_space.noop() | action}]
        if not number:
            content.insert(0, {"type": "image", "image": frames[0]})
        drawn = assistant.processor.image_item(frames[number + 1], drawn=True, frame=True)
        messages += [{"role": "user", "content": content}, {"role": "assistant", "content": [drawn]}]
    ids = torch.tensor([assistant.processor.encode(messages)])
    with torch.no_grad():
        log_probs = assistant.model(ids).log_probs[0]
    words = assistant.model.vocabulary
    kinds = Layout.of(ids, words).index.kind[0]
    is_code = (ids[0] >= words.visual_start) & (ids[0] < words.visual_start + words.visual)
    found = env.score(frames, actions)
    expected = log_probs[(kinds == Kind.WRITE) & is_code].view(3, found.codes).sum(1)
    assert found.log_probs == pytest.approx(expected.numpy(), rel=1e-3)
    bits = -expected.sum().item() / (3 * found.codes * np.log(2))
    assert found.bits_per_code == pytest.approx(bits, rel=1e-3)


def test_rewards_are_those_of_the_function(env, clip):
    frames, actions = clip
    found = env.score(frames, actions)
    means = [frame.mean() for frame in frames]
    assert found.rewards == pytest.approx(np.diff(means))
    assert found.ended.tolist() == [bool(action.get("jump")) for action in actions]


def test_clips_of_unequal_length_are_scored_at_once(env, picture, walk):
    """Longer than the window, too; the running episode does not notice."""
    clips = [
        ([picture(seed + step) for step in range(length + 1)], walk[seed : seed + length])
        for seed, length in ((0, 7), (3, 1), (5, 4))
    ]
    env.reset(seed=0)
    env.step({})
    before = env.get_state().dream
    together = score(env, clips)
    for clip, found in zip(clips, together, strict=True):
        alone = env.score(*clip)
        assert found.log_probs == pytest.approx(alone.log_probs, rel=1e-4)
        assert found.rewards.tolist() == alone.rewards.tolist()
    assert [len(found.log_probs) for found in together] == [7, 1, 4]
    assert env.get_state().dream is before
    assert score(env, []) == []


def test_bad_clips_are_refused(env, picture):
    for frames, actions, message in (
        ([picture()], [], "n \\+ 1 frames"),
        ([picture()] * 2, [{}, {}], "n \\+ 1 frames"),
        ([picture()] * 2, [{"fly": 1}], "unknown"),
        ([picture(), "no_such.png"], [{}], "no_such"),
    ):
        with pytest.raises((ValueError, OSError), match=message):
            env.score(frames, actions)
