"""Training a model's transition alone."""

import copy

import numpy as np
import pytest
import torch
from unified.tasks.worlds import inverse
from unified.tasks.worlds.clips import Clip, WorldConfig, watch
from unified.train.transition import (
    Clips,
    Reader,
    class_weights,
    clips_of,
    imagined,
    losses,
    main,
    reader_config,
    shares,
    train,
    vectors_of,
    with_transition,
)

from unified.apps.demo import random_model
from unified.apps.rollout import Rollout
from unified.model import UnifiedConfig, UnifiedModel
from unified.pretrained import load_model, save_model


def turns(processor, number, seed):
    """Frames of noise that move one code to the left or to the right as the player turns."""
    rng, clips = np.random.default_rng(seed), []
    stride = processor.visual.stride
    for _ in range(number):
        wide = rng.integers(0, 256, (stride * 4, stride * 12, 3), np.uint8)
        place, frames, actions = 4, [], []
        for side in rng.choice([-1, 1], 3):
            frames.append(wide[:, place * stride : (place + 4) * stride])
            place += side
            actions.append({"camera": (0.0, 30.0 * side)})
        frames.append(wide[:, place * stride : (place + 4) * stride])
        clips.append(Clip(frames=np.stack(frames), actions=actions, text=""))
    return iter(clips)


def test_it_learns_where_codes_move_from_the_action():
    torch.set_num_threads(1)
    model, processor = random_model()
    model = with_transition(model, 16)
    with torch.no_grad():
        model.head.projection.weight.copy_(3 * model.head.embedding.weight)
    generator = torch.Generator().manual_seed(0)
    wide = torch.randint(16, (600, 4, 6), generator=generator)
    side = torch.randint(2, (600,), generator=generator)
    # what is seen in the middle moves by one code; the clips below say which action stands for which side
    ids = clips_of(turns(processor, 4, 0), processor).actions.flatten(0, 1).unique(dim=0)
    assert len(ids) == 2
    before = wide[:, :, 1:5]
    after = torch.where(side[:, None, None] == 0, wide[:, :, 0:4], wide[:, :, 2:6])
    codes = torch.stack([before.flatten(1), after.flatten(1)], dim=1)
    learned, fresh = (
        Clips(codes[part], ids[side[part], None], (4, 4)) for part in (slice(0, 500), slice(500, 600))
    )
    train(model, learned, 300, batch=32, rate=1e-2)
    everything = torch.arange(100)
    with torch.no_grad():
        right = losses(model, fresh, everything).nats.view(100, 4, 4)
        other = Clips(fresh.codes, ids[1 - side[500:], None], (4, 4))
        wrong = losses(model, other, everything).nats.view(100, 4, 4)
    assert right[:, :, 1:3].mean() < 0.5 * wrong[:, :, 1:3].mean()


def test_clips_hold_the_codes_that_the_model_sees():
    _, processor = random_model()
    clip = watch(WorldConfig(size=32, frames=4, seed=3), 0, "train")
    clips = clips_of(iter([clip]), processor)
    item = processor.image_item(clip.frames[2])
    area = clips.shape[0] * clips.shape[1]
    assert len(clips) == 1
    assert clips.codes[0, 2].tolist() == item["codes"][-area:]
    turn = processor.turn({"role": "user", "content": [{"type": "action", "action": clip.actions[1]}]})
    assert clips.actions[0, 1].tolist() == turn[1:-1]


def test_it_goes_on_from_its_own_frames_as_a_rollout_does():
    model, processor = random_model()
    model = with_transition(model, 16)
    torch.nn.init.normal_(model.extras["transition"].exit.weight)
    clip = watch(WorldConfig(size=32, frames=4, seed=3), 0, "train")
    clips = clips_of(iter([clip]), processor)
    rollout, used = Rollout(model, processor, [[clip.frames[0]]]), []
    with torch.no_grad():
        for action, image in zip(
            clip.actions, imagined(model, clips.codes[:, 0], clips.actions, clips.shape), strict=True
        ):
            rollout.step([action])
            used.append(rollout.session.rows[0].reference.vectors)
            torch.testing.assert_close(
                torch.nn.functional.normalize(used[-1], dim=-1),
                torch.nn.functional.normalize(image[0], dim=-1),
            )
    assert not torch.equal(used[0], used[1])


def test_what_lies_ahead_is_gone_through_and_not_learned_from():
    model, processor = random_model()
    model = with_transition(model, 16)
    torch.nn.init.normal_(model.extras["transition"].exit.weight)
    clips = clips_of(iter([watch(WorldConfig(size=32, frames=6, seed=3), 0, "train")]), processor)
    every = torch.arange(1)
    whole, later = (losses(model, clips, every, ahead=ahead) for ahead in (0, 3))
    torch.testing.assert_close(later.nats, whole.nats[:, 3:])
    assert torch.equal(later.read, whole.read)

    steps = list(imagined(model, clips.codes[:, 0], clips.actions, clips.shape, ahead=3))
    assert [step.requires_grad for step in steps] == [True, False, False, True, True]
    assert torch.autograd.grad(steps[-1].sum(), steps[0], retain_graph=True, allow_unused=True) == (None,)
    assert torch.autograd.grad(steps[-1].sum(), steps[3])[0].any()


def test_classes_weigh_more_the_rarer_they_are_and_one_in_the_mean():
    _, processor = random_model()
    clips = clips_of(turns(processor, 20, 0), processor)
    clips.classes["use"][3, 1] = 1
    weights = class_weights(clips)
    for name, classes in clips.classes.items():
        assert len(weights[name]) == inverse.HEADS[name]
        torch.testing.assert_close(weights[name][classes].mean(), torch.tensor(1.0))
    torch.testing.assert_close(weights["use"][1] ** 2, 59 * weights["use"][0] ** 2)
    said = {name: torch.randn(20, 3, size) for name, size in inverse.HEADS.items()}
    same = {name: torch.ones(size) for name, size in inverse.HEADS.items()}
    plain, heavy = (inverse.cost(said, clips.classes, w) for w in (None, {**same, "use": 2 * same["use"]}))
    torch.testing.assert_close(inverse.cost(said, clips.classes, same), plain)
    use = torch.nn.functional.cross_entropy(said["use"].flatten(0, 1), clips.classes["use"].flatten())
    torch.testing.assert_close(heavy - plain, use)


def test_a_transition_gets_more_channels_or_fewer():
    model, _ = random_model()
    model = with_transition(model, 16)
    torch.nn.init.normal_(model.extras["transition"].exit.weight)
    grown = with_transition(model, 24)
    assert grown.config.extras["transition"] == {"channels": 24}
    assert torch.equal(grown.head.embedding.weight, model.head.embedding.weight)
    images, said = torch.randn(1, 4, 4, model.config.hidden_size), torch.randn(1, model.config.hidden_size)
    sizes = torch.tensor([[4, 4]])
    shrunk = with_transition(grown, 16)
    assert shrunk.config.extras["transition"] == {"channels": 16}
    made = [(m.extras["transition"](images, sizes, said) - images).flatten() for m in (model, grown, shrunk)]
    for other in made[1:]:
        assert torch.nn.functional.cosine_similarity(made[0], other, dim=0) > 0.9


def test_frames_come_to_show_what_was_done_where_a_reader_looks_at_them():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, processor = random_model()
    model = with_transition(model, 16)
    config, clips = reader_config(processor), clips_of(turns(processor, 40, 0), processor)
    assert torch.equal(clips.until(1).codes, clips.codes[:, :2])
    small = inverse.InverseModel(inverse.InverseConfig(channels=config.channels, width=8, size=16, memory=8))
    reader = Reader(small.requires_grad_(False), vectors_of(processor), 1.0)
    everything = torch.arange(len(clips))
    before = losses(model, clips, everything, reader)
    train(model, clips, 60, batch=16, rate=1e-2, reader=reader)
    with torch.no_grad():
        after = losses(model, clips, everything, reader)
    assert after.followed < before.followed - 0.3
    assert losses(model, clips, everything).followed == 0


def test_first_steps_can_be_kept_as_another_model_makes_them():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, processor = random_model()
    model = with_transition(model, 16)
    other = copy.deepcopy(model)
    torch.nn.init.normal_(other.extras["transition"].exit.weight)
    clips = clips_of(turns(processor, 20, 0), processor)

    def apart():
        with torch.no_grad():
            own, kept = (losses(m, clips.until(1), torch.arange(20)).read for m in (model, other))
        return (own - kept).square().mean().item()

    before = apart()
    train(model, clips, 60, batch=16, rate=1e-2, keep=1000.0, kept=other)
    assert apart() < 0.5 * before


@pytest.mark.slow
def test_first_steps_are_kept_as_all_channels_made_them(tmp_path):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, processor = random_model()
    model = with_transition(model, 16)
    torch.nn.init.normal_(model.extras["transition"].exit.weight)
    save_model(tmp_path / "before", model, processor)
    where = ["--model", str(tmp_path / "before"), "--out", str(tmp_path / "after"), "--hidden", "8"]
    how = ["--clips", "8", "--steps", "60", "--rate", "1e-2", "--keep", "1000", "--workers", "1"]
    assert main([*where, *how]) == 0
    clips, everything = clips_of(turns(processor, 20, 0), processor).until(1), torch.arange(20)
    with torch.no_grad():
        models = model, with_transition(model, 8), load_model(tmp_path / "after")[0]
        wanted, pruned, trained = (losses(m, clips, everything).read for m in models)
    assert (trained - wanted).square().mean() < 0.85 * (pruned - wanted).square().mean()


def test_clips_with_rare_keys_are_drawn_more_often():
    codes, actions = torch.zeros(100, 5, 4, dtype=torch.int32), torch.zeros(100, 4, 11, dtype=torch.int64)
    use, jump = torch.zeros(2, 100, 4, dtype=torch.int64)
    use[3, 2], jump[:50, 1] = 1, 1
    found = shares(Clips(codes, actions, (2, 2), {"use": use, "jump": jump, "yaw": use}))
    assert found[3] == 10
    torch.testing.assert_close(found[0] ** 2, torch.tensor(400 / 50))
    torch.testing.assert_close(found[99] ** 2, torch.tensor(400 / 350))
    assert torch.equal(shares(Clips(codes, actions, (2, 2))), torch.ones(100))


def test_a_reader_of_other_frames_is_refused_in_one_line(tmp_path, capsys):
    model, processor = random_model()
    save_model(tmp_path / "model", model, processor)
    inverse.save(inverse.InverseModel(inverse.InverseConfig(width=8)), tmp_path / "pixels.safetensors", {})
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                *("--model", str(tmp_path / "model"), "--out", str(tmp_path / "out")),
                *("--reader", str(tmp_path / "pixels.safetensors"), "--clips", "1", "--steps", "1"),
            ]
        )
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert "does not read this model's frames" in printed
    assert printed.count("\n") == 1


@pytest.mark.slow
def test_the_command_gives_a_model_one_and_changes_nothing_else(tmp_path, capsys):
    model, processor = random_model()
    save_model(tmp_path / "before", model, processor)
    options = ["--hidden", "8", "--clips", "2", "--steps", "3", "--compile"]
    where = ["--model", str(tmp_path / "before"), "--out", str(tmp_path / "after")]
    assert main([*where, *options]) == 0
    assert "nats a code on held-out frames" in capsys.readouterr().out
    found, _ = load_model(tmp_path / "after")
    assert found.config.extras["transition"] == {"channels": 8}
    assert found.extras["transition"].exit.weight.any()
    state = found.state_dict()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert set(state) - set(model.state_dict()) == {n for n in state if n.startswith("extras.transition.")}


@pytest.mark.parametrize(
    "wrong",
    [
        ["--hidden", "0"],
        ["--model", "nowhere"],
        ["--rate", "nan"],
        ["--rate", "-1"],
        ["--rate", "fast"],
        ["--seed", "-1"],
        ["--keep", "-1"],
        ["--keep", "much"],
        ["--follow", "-1"],
        ["--kept", "nowhere", "--hidden", "8"],
        ["--reader", "nowhere.safetensors"],
    ],
)
def test_bad_input_is_one_line(wrong, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--out", str(tmp_path / "out"), *wrong])
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "_rate" not in printed
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_kept_is_refused_in_one_line(tmp_path, capsys):
    model, processor = random_model()
    save_model(tmp_path / "without", model, processor)
    save_model(tmp_path / "with", with_transition(model, 8), processor)
    for name, keep, said in (("without", "1", "with a transition"), ("with", "0", "give both")):
        where = ["--model", str(tmp_path / "with"), "--out", str(tmp_path / "out")]
        with pytest.raises(SystemExit) as stopped:
            main([*where, "--kept", str(tmp_path / name), "--keep", keep, "--clips", "1", "--steps", "1"])
        assert stopped.value.code == 2
        printed = capsys.readouterr().err
        assert said in printed
        assert printed.count("\n") == 1


@pytest.mark.slow
def test_without_a_number_of_channels_it_keeps_its_own(tmp_path):
    model, processor = random_model()
    save_model(tmp_path / "before", with_transition(model, 8), processor)
    where = ["--model", str(tmp_path / "before"), "--out", str(tmp_path / "after")]
    assert main([*where, "--clips", "2", "--steps", "1"]) == 0
    assert load_model(tmp_path / "after")[0].config.extras["transition"] == {"channels": 8}


def test_what_cannot_be_given_one_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    model, processor = random_model()
    save_model(tmp_path / "blind", UnifiedModel(UnifiedConfig(vocabulary=model.config.vocabulary)), processor)
    for name, out, said in (("blind", "out", "add reference or copy_gate"), ("blind", "file", "is a file")):
        with pytest.raises(SystemExit) as stopped:
            main(
                [
                    "--model",
                    str(tmp_path / name),
                    "--out",
                    str(tmp_path / out),
                    "--clips",
                    "1",
                    "--steps",
                    "1",
                ]
            )
        assert stopped.value.code == 2
        printed = capsys.readouterr().err
        assert said in printed
        assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()
