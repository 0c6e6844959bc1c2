"""Epona on tiny random modules: geometry, no leak in time, cached equals uncached, chains, rollouts."""

import math

import pytest
import torch

from unified.checkpoints.epona.flow_transformer import FlowConfig, FlowTransformer, flowed
from unified.checkpoints.epona.geometry import MotionScales, motion_between, motions, trajectories
from unified.checkpoints.epona.network import Epona, EponaSizes, frame_positions, load, point_positions
from unified.checkpoints.epona.sampling import predict, rollout, shifted_times
from unified.checkpoints.epona.training import PassDraws, chain_of_forward, chained, losses, window_of
from unified.checkpoints.epona.transformer import ContextTransformer
from unified.decoding.noise import PositionNoise

SIZES = EponaSizes(grid=(2, 3), frames=3, points=2, axes=((2, 2, 4), (2, 2, 4)))


def tiny():
    torch.manual_seed(0)
    context = ContextTransformer(3, 16, 2, 2, 8, SIZES.grid, frames=6)
    config = {"condition": 16, "width": 16, "heads": 2, "axes": (2, 2, 4)}
    frame = FlowTransformer(FlowConfig(channels=3, vector=48, **config), frame_positions(SIZES.grid))
    path = FlowTransformer(FlowConfig(channels=3, **config), point_positions(SIZES.points))
    model = Epona(SIZES, context, frame, path)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def turned(degrees, forward, side):
    """A pose."""
    angle, pose = math.radians(degrees), torch.eye(4)
    pose[0, :2] = torch.tensor([math.cos(angle), -math.sin(angle)])
    pose[1, :2] = torch.tensor([math.sin(angle), math.cos(angle)])
    pose[:2, 3] = torch.tensor([forward, side])
    return pose


def scene(rows=2, frames=8, seed=1):
    generator = torch.Generator().manual_seed(seed)
    steps = torch.rand(rows, frames, 3, generator=generator) * torch.tensor([4.0, 1.0, 3.0])
    poses = torch.stack(
        [torch.stack([turned(*row.roll(1).tolist()) for row in one]) for one in steps.cumsum(dim=1)]
    )
    return torch.randn(rows, frames, 6, 3, generator=generator), poses


def draws(rows=2, seed=3):
    generator = torch.Generator().manual_seed(seed)
    shapes = (rows * 3, 1, 1), (rows * 3, 2, 3), (rows * 3, 1, 1), (rows * 3, 6, 3)
    made = [torch.randn(shape, generator=generator) for shape in shapes]
    return PassDraws(made[0].sigmoid(), made[1], made[2].sigmoid(), made[3])


def test_motion_is_seen_from_the_first_pose():
    before, after = turned(90, 1.0, 2.0), turned(100, 1.0, 5.0)
    torch.testing.assert_close(
        motion_between(before, after), torch.tensor([3.0, 0.0, 10.0]), rtol=0, atol=1e-5
    )
    poses = torch.stack([before, after, before])[None]
    found = motions(poses, 2)
    assert not found[:, 0].any()
    torch.testing.assert_close(found[0, 1], motion_between(before, after))
    torch.testing.assert_close(trajectories(poses, 1, 2)[0, 0, 0], motion_between(before, after))
    with pytest.raises(ValueError, match="2 frames with 2 way points need 4 poses"):
        trajectories(poses, 2, 2)


def test_scales_are_continuous_clipped_and_inverted():
    scales = MotionScales()
    places = scales.places(torch.tensor([[1.01, 0.0, 0.0], [-3.0, 9.0, -99.0]]))
    torch.testing.assert_close(places[0], torch.tensor([16.16, 63.5, 255.5]))
    assert places[1].tolist() == [0.0, 128.0, 0.0]
    path = torch.tensor([[10.0, -2.0, 5.0]])
    torch.testing.assert_close(scales.normalised(path), torch.tensor([[-0.6, -0.2, 5 / 12]]))
    torch.testing.assert_close(scales.trajectory(scales.normalised(path)), path)


@torch.no_grad()
def test_later_frames_have_no_effect_on_the_features_of_earlier_ones():
    model, (latents, poses) = tiny(), scene()
    motion = motions(poses, 4)[:, :4]
    one = model.model(latents[:, :4], motion)
    latents[:, 2:] += 1
    motion[:, 2:] += 1
    other = model.model(latents[:, :4], motion)
    assert torch.equal(one[:, :2], other[:, :2])
    assert not torch.allclose(one[:, 2:], other[:, 2:])


@torch.no_grad()
def test_cached_features_equal_those_of_one_pass():
    model, (latents, poses) = tiny(), scene()
    motion, stores = motions(poses, 5), model.model.stores()
    whole = model.model(latents[:, :5], motion[:, :5])
    parts = [
        model.model(latents[:, start:stop], motion[:, start:stop], stores)
        for start, stop in ((0, 2), (2, 3), (3, 5))
    ]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="positions of 6 frames, got 7"):
        model.model(latents[:, :2], motion[:, :2], stores)


@torch.no_grad()
def test_a_perfect_velocity_is_no_loss_and_finds_the_data():
    head, (values, noise) = tiny().traj_dit, torch.randn(2, 2, 2, 3)
    times, features = torch.rand(2, 1, 1), torch.randn(2, 9, 16)
    made = flowed(head, values, noise, times, features)
    noisy = times * values + (1 - times) * noise
    torch.testing.assert_close(made.found, head(noisy, times.flatten(), features))
    torch.testing.assert_close(made.loss, (made.found - (values - noise)).square().mean())
    torch.testing.assert_close(made.value - values, (1 - times) * (made.found - (values - noise)))


def test_a_chain_reads_its_own_estimates_and_moves_on():
    model, (latents, poses) = tiny(), scene()
    passes = list(chain_of_forward(model, latents, poses, iter([draws(), draws(seed=4)]), 0.5))
    (first, one), (second, two) = passes
    assert torch.equal(first.frames, latents[:, :3])
    assert torch.equal(second.frames, one.frames)
    assert not second.frames.requires_grad
    assert torch.equal(second.following, latents[:, 4])
    true = window_of(model, latents, poses, 1)
    assert torch.equal(second.motion[:, -1], true.motion[:, -1])
    assert torch.equal(second.motion[:, :-1], one.trajectories[:, :, 0])
    metres = chained(model, true, one, rescaled=True).motion[:, :-1]
    torch.testing.assert_close(metres, SIZES.scales.trajectory(one.trajectories[:, :, 0].detach()))
    torch.testing.assert_close(two.total, two.frame_loss + two.trajectory_loss)
    whole = losses(model, first, draws(), 1.0)
    torch.testing.assert_close(whole.trajectory_loss, 2 * one.trajectory_loss)


def test_times_run_from_noise_to_data_slower_at_first_with_many_tokens():
    few, many = shifted_times(10, 16), shifted_times(10, 4096)
    for times in (few, many):
        assert abs(float(times[0])) < 1e-6
        assert float(times[-1]) == 1
        assert (times.diff() > 0).all()
    assert (many[1:-1] < few[1:-1]).all()


def test_a_row_is_the_same_alone_and_in_a_batch():
    model, (latents, poses) = tiny(), scene()
    frames, motion = latents[:, :3], motions(poses, 3)[:, :3]
    both = rollout(model, frames, motion, PositionNoise([3, 4]), 2, 3)
    for row in range(2):
        one = slice(row, row + 1)
        alone = rollout(model, frames[one], motion[one], PositionNoise([3 + row]), 2, 3)
        for found, wanted in zip(alone, both, strict=True):
            torch.testing.assert_close(found.frame[0], wanted.frame[row], rtol=1e-3, atol=1e-3)
    other = rollout(model, frames, motion, PositionNoise([9, 4]), 1, 3)
    assert not torch.equal(other[0].frame[0], both[0].frame[0])


def test_a_command_changes_the_frame_and_not_the_plan():
    model, (latents, poses) = tiny(), scene()
    frames, motion, noise = latents[:, :3], motions(poses, 3)[:, :3], PositionNoise([3, 4])
    made = predict(model, frames, motion, noise, 3)
    same = predict(model, frames, motion, noise, 3, made.trajectory[:, 0])
    assert torch.equal(same.frame, made.frame)
    slow, fast = (
        predict(model, frames, motion, noise, 3, torch.tensor([[forward, 0.1, 2.0]] * 2))
        for forward in (1.0, 6.0)
    )
    assert torch.equal(slow.trajectory, made.trajectory)
    assert not torch.allclose(slow.frame, fast.frame, atol=1e-3)


def test_weights_are_loaded_by_their_official_names():
    model, state = tiny(), {}
    for name, value in model.state_dict().items():
        tokens = "traj_in" if name.startswith("traj_dit") else "img_in"
        state[name.replace("token_in", tokens)] = value
    loaded = load(state, SIZES)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    with pytest.raises(ValueError, match="do not share out heads"):
        FlowConfig(axes=(4, 4, 4))
