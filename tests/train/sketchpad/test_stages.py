"""The published stages: what trains in each, and that it learns."""

from itertools import islice

import numpy as np
import pytest
import sketch_models as models
import torch
from unified.train.sketchpad.augmentation import Reconstruction
from unified.train.sketchpad.rows import pictures_of
from unified.train.sketchpad.run import arguments, train
from unified.train.sketchpad.stages import Held, SketchTraining, StageConfig, examples

EVERY = pytest.mark.parametrize("name", models.FAMILIES)
TALKS = [Held(models.talk(2, first=10 * number)) for number in range(2)]


def training(load, name, config, **options):
    loaded = load(name)
    pad = models.sketchpad(loaded, std=0.05)
    return SketchTraining(pad, loaded[1], config, **options)


def changed(module, before):
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def one_step(module, config):
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.train()
    optimiser = torch.optim.SGD([value for value in module.parameters() if value.requires_grad], lr=0.1)
    module(examples(config, TALKS))["loss"].backward()
    optimiser.step()
    return changed(module, before)


@EVERY
def test_words_train_decoder_output_and_connector_alone(load, name):
    config = StageConfig(text_only=0.0)
    module = training(load, name, config)
    found = one_step(module, config)
    projector = module.pad.family.projector
    parts = ("language_model.layers", "language_model.norm", "lm_head", projector.removeprefix("model."))
    assert all(any(part in one for one in found) for part in parts)
    assert all(any(part in one for part in parts) for one in found)
    model = module.pretrained
    assert model.get_output_embeddings().weight is not model.get_input_embeddings().weight


@EVERY
@pytest.mark.parametrize("loss", ["l1", "mse", "cosine"])
def test_latents_train_the_head_alone(load, name, loss):
    config = StageConfig(stage="latents", loss=loss)
    module = training(load, name, config)
    found = one_step(module, config)
    assert found
    assert all(one.startswith("head.") for one in found)
    assert {one.split(".")[1] for one in found} == {"mlp", "perceiver"}


@EVERY
@pytest.mark.parametrize("stage", ["text", "latents"])
def test_a_trainer_learns_two_traces(load, name, stage, tmp_path):
    config = StageConfig(stage=stage, text_only=0.0, learning_rate=3e-3, epochs=25, rows=4)
    module = training(load, name, config)
    module.head.context_dropout = 0.0
    samples = examples(config, TALKS)
    assert len(samples) == (2 if stage == "text" else 4)
    with torch.no_grad():
        before = float(module.eval()(samples)["loss"])
    train(module, samples, arguments(tmp_path, config, use_cpu=True, lr_scheduler_type="constant"))
    with torch.no_grad():
        assert float(module(samples)["loss"]) < 0.75 * before


def test_the_loss_of_latents_is_that_of_what_generation_predicts(load):
    """The true latents before a row, and finished images, are all that it depends on."""
    config = StageConfig(stage="latents")
    module = training(load, "gemma3", config).eval()
    (sample,) = islice(examples(config, TALKS), 1)
    batch = module.prepared([sample])
    with torch.no_grad():
        embeds, hidden = module.pad.states(batch.ids, batch.values)
        found = module.pad.predict(embeds, hidden, batch.prefix, batch.drawn).vision
        target = module.pad.connector.norm(batch.target)
        assert float(module([sample])["loss"]) == pytest.approx(float((found - target).abs().mean()))


def test_a_share_of_the_traces_is_turned_into_text(load):
    config = StageConfig(text_only=0.5)
    module = training(load, "gemma3", config).train()
    count = sum(len(module._row(sample).images) == 1 for sample in examples(config, TALKS * 30))
    assert 18 <= count <= 42
    assert all(len(pictures_of(talk.messages())) == 3 for talk in TALKS)  # samples stay as they are
    module.eval()
    assert all(len(module._row(sample).images) == 3 for sample in examples(config, TALKS))


# Reconstruction ---------------------------------------------------------------------------------------------


def grey(features):
    return torch.zeros(len(features), 3, 8, 8)


def test_pictures_pass_the_decoder_up_to_twice_but_the_first_and_the_target(load):
    loaded = load("gemma3")
    made = Reconstruction(models.sketchpad(loaded), loaded[1], grey)
    messages = models.talk(3)
    originals = pictures_of(messages)
    seen = np.zeros(4)
    for seed in range(30):
        found = pictures_of(made(messages, np.random.default_rng(seed), spare_last=True))
        seen += [not np.array_equal(*pair) for pair in zip(found, originals, strict=True)]
        assert all(one.shape == (24, 24, 3) for one in found)
    assert seen[0] == seen[3] == 0
    assert (seen[1:3] > 10).all()
    assert (seen[1:3] < 30).all()
    assert any(
        (pictures_of(made(messages, np.random.default_rng(seed), spare_last=False))[3] == 128).all()
        for seed in range(5)
    )


def test_a_decoder_is_given_normalised_features(load):
    loaded = load("qwen2_5_vl")
    pad, given = models.sketchpad(loaded), []

    def noted(features):
        given.append(features)
        return grey(features)

    made = Reconstruction(pad, loaded[1], noted)
    assert (made.once(models.picture(3)) == 128).all()
    features = pad.encode(loaded[1].pixels([models.picture(3)])).features[0]
    assert torch.equal(given[0][0], pad.connector.norm(features))


@pytest.mark.parametrize("stage", ["text", "latents"])
def test_stages_train_on_reconstructions(load, stage):
    loaded = load("gemma3")
    pad = models.sketchpad(loaded)
    config = StageConfig(stage=stage, text_only=0.0)
    made = Reconstruction(pad, loaded[1], grey)
    module = SketchTraining(pad, loaded[1], config, made).train()
    losses = {module(examples(config, TALKS[:1]))["loss"].item() for _ in range(6)}
    assert len(losses) > 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"stage": "paint"}, "choose one of text, latents"),
        ({"loss": "l3"}, "choose one of l1, mse, cosine"),
        ({"text_only": 1.5}, "text_only must be a finite number from 0 to 1"),
        ({"rows": 0}, "rows must be a whole number of at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        StageConfig(**wrong)


def test_nothing_to_learn_is_refused():
    with pytest.raises(ValueError, match="there is no trace with a picture in its answer"):
        examples(StageConfig(stage="latents"), [Held(models.talk(0))])
    with pytest.raises(ValueError, match="there is no trace"):
        examples(StageConfig(), [])
