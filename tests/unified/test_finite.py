"""What is not finite is refused: settings before anything is computed, weights and predictions by name."""

import math

import numpy as np
import pytest
import torch
from unified.envs.voxel.config import VoxelConfig
from unified.envs.world_model import WorldModelEnv
from unified.train.override import override
from unified.train.recipes import RECIPES
from unified.train.stage import OptimisationConfig, Stage, StageData

import unified
from unified.apps.answering import GenerationSettings
from unified.apps.assistant import Assistant
from unified.apps.demo import random_model
from unified.apps.rollout import Rollout
from unified.checkpoints.infinity_generation import LayerGuidance
from unified.checkpoints.nar_generation import UntilCount
from unified.cli import main
from unified.config import UnifiedConfig
from unified.decoding.guidance import CappedRamp, Constant, Guidance, PerStep, Ramp
from unified.decoding.minimum_risk import MinimumRisk
from unified.decoding.noise import GeneratorNoise, PositionNoise
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.decoding.strategies import Speculative
from unified.depth.variant import VARiantConfig
from unified.extras.references import ActionContrast
from unified.finite import check_count, check_logits, check_number, check_tree, check_weights
from unified.heads.diffusion import DiffusionConfig, DiffusionHead
from unified.heads.regression import RegressionHead
from unified.objectives.dpo import DPOConfig
from unified.pretrained import load_model, save_model

NAN, INF = math.nan, math.inf
ENDLESS = (NAN, INF, -INF, "warm", None, 10**400, np.float32("nan"), torch.tensor(INF), torch.zeros(2), 1j)

SETTINGS = {
    "temperature": lambda x: Sampler(temperature=x),
    "top_k": lambda x: Sampler(top_k=x),
    "top_p": lambda x: Sampler(top_p=x),
    "constant": Constant,
    "ramp": Ramp,
    "capped": CappedRamp,
    "per step": lambda x: PerStep((1.0, x)),
    "until": UntilCount,
    "layer": lambda x: LayerGuidance((1.0, x), 0),
    "risk": lambda x: MinimumRisk(torch.zeros(2, 2), x),
    "risk width": lambda x: GenerationSettings(minimum_risk_width=x),
    "visual contrast": lambda x: GenerationSettings(visual_contrast=x),
    "max_tokens": lambda x: GenerationSettings(max_tokens=x),
    "max_images": lambda x: GenerationSettings(max_images=x),
    "action contrast": lambda x: ActionContrast([[0]], x),
    "voxel": lambda x: VoxelConfig(field_of_view=x),
    "reach": lambda x: VoxelConfig(reach=x),
}


@pytest.mark.parametrize("value", ENDLESS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_is_no_finite_number_is_refused_in_one_line(setting, value):
    with pytest.raises(ValueError, match=r"finite|whole number") as error:
        SETTINGS[setting](value)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture
def assistant(model, monkeypatch):
    """One whose model must not run."""
    ran = Assistant(*model, side=32)
    monkeypatch.setattr(type(ran.model), "hidden", lambda *_, **__: pytest.fail("the model ran"))
    return ran


@pytest.mark.parametrize("value", [NAN, INF, -INF, "much"])
@pytest.mark.parametrize("name", ["guidance", "temperature", "tries"])
def test_drawing_refuses_before_the_model_runs(assistant, name, value):
    with pytest.raises(ValueError, match=r"finite|whole number"):
        assistant.draw("A dot.", size=(16, 16), **{name: value})


class Drifting(Guidance):
    def weight(self, plan, step):
        return NAN if step else 1.0


def test_sessions_refuse_before_the_model_runs(assistant):
    session = Session(assistant.model)
    with pytest.raises(ValueError, match="weight of guidance at step 1 must be a finite number"):
        session.image([1, 2], guidance=Drifting())
    with pytest.raises(ValueError, match="contrast must be"):
        next(session.text(visual_contrast=INF))
    with pytest.raises(ValueError, match="max_tokens must be"):
        next(session.text(max_tokens=NAN))


@pytest.mark.parametrize("options", [{"contrast": NAN}, {"window": NAN}, {"window": 0}, {"contrast": -1.0}])
def test_rollouts_refuse(model, options):
    with pytest.raises(ValueError, match=r"contrast|window"):
        Rollout(*model, [[np.zeros((32, 32, 3), np.uint8)]], **options)


@pytest.mark.parametrize(
    "options", [{"temperature": NAN}, {"temperature": -1}, {"window": INF}, {"max_steps": NAN}]
)
def test_environments_refuse(model, options):
    with pytest.raises(ValueError, match=r"temperature|window|max_steps"):
        WorldModelEnv(Assistant(*model, side=32), **options)


@pytest.mark.parametrize("flag", ["--temperature", "--guidance"])
@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "warm"])
def test_commands_refuse_with_status_2(capsys, flag, text):
    with pytest.raises(SystemExit) as ended:
        main(["draw", "a dot", f"{flag}={text}"])
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_recipes_and_configurations_refuse():
    recipe = RECIPES["nano_smoke"]()
    for text in ("NaN", "Infinity", "1e999"):
        with pytest.raises(ValueError, match=r"learning_rate must be a finite number"):
            override(recipe, [f"stages.0.optimisation.learning_rate={text}"])
    data = StageData(mixture={"scene_draw": 1.0})
    with pytest.raises(ValueError, match=r"optimisation.clip must be a finite number, got inf"):
        Stage(data=data, optimisation=OptimisationConfig(clip=INF))
    for make in (lambda: DPOConfig(beta=NAN), lambda: VARiantConfig(bridge=INF, unit="side")):
        with pytest.raises(ValueError, match="must be a finite number"):
            make()
    with pytest.raises(ValueError, match=r"backbone.rms_norm_eps must be a finite number"):
        UnifiedConfig(backbone={**random_model()[0].config.backbone, "rms_norm_eps": NAN})
    check_tree({"a": (1, 2.0, {"b": None})})


def test_numbers_of_other_libraries_are_numbers():
    assert Sampler(temperature=np.float32(0.5), top_k=np.int64(3)).temperature == 0.5
    assert Constant(torch.tensor(2.0)).scale == 2
    check_number("x", 0.0, 0, 0)
    check_count("x", 3.0, 3)
    with pytest.raises(ValueError, match="whole number of at least 0"):
        check_count("x", 1.5)


# Temperatures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1e-29, 1e-31, 1e-38, 1e-40, 5e-324])
def test_temperatures_near_zero_take_the_likeliest(temperature):
    logits = torch.randn(2, 5, 2, 40, generator=torch.Generator().manual_seed(3)) * 30
    places = torch.arange(5).expand(2, 5)
    for noise in (PositionNoise([4, 5]), GeneratorNoise(torch.Generator().manual_seed(0))):
        drawn = Sampler(temperature=temperature, top_p=0.9).draw(logits, noise, places)
        assert torch.equal(drawn.symbols, logits.argmax(dim=-1))
        assert torch.equal(drawn.log_probs, torch.zeros(2, 5))


# Predictions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoilt", [NAN, INF, None])
@pytest.mark.parametrize("sampler", [Sampler(), Sampler(temperature=0), Sampler(top_k=2, top_p=0.5)])
def test_logits_that_are_not_finite_raise(spoilt, sampler):
    logits = torch.randn(1, 3, 1, 8)
    logits[0, 1] = -INF if spoilt is None else logits[0, 1]
    logits[0, 1, 0, 4] = -INF if spoilt is None else spoilt
    with pytest.raises(ValueError, match="predicts logits that are not finite"):
        sampler.draw(logits, PositionNoise([0]), torch.arange(3)[None])


def test_words_that_are_excluded_are_no_fault():
    logits = torch.full((2, 1, 1, 8), -INF)
    logits[..., 3] = 0.0
    check_logits(logits)
    assert Sampler().draw(logits, PositionNoise([0]), torch.zeros(2, 1, dtype=torch.long)).symbols.eq(3).all()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_continuous_heads_raise(temperature):
    hidden = torch.full((1, 2, 8), NAN)
    for head in (
        RegressionHead(8, 4),
        DiffusionHead(8, 4, DiffusionConfig(inner=8, depth=1, steps=20, sampling=(5,))),
    ):
        with pytest.raises(ValueError, match="predicts values that are not finite"):
            head.distribution(hidden).sample(
                PositionNoise([0]), torch.arange(2)[None], Sampler(temperature=temperature)
            )


@pytest.fixture
def damaged():
    """A model whose predictions are NaN though its weights were fine when it was made."""
    model, processor = random_model()
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "norm" in name).fill_(NAN)
    return model, processor


@pytest.mark.parametrize("strategy", [None, Speculative()])
def test_a_damaged_model_says_nothing_draws_nothing_and_does_nothing(damaged, strategy):
    model, processor = damaged
    session = Session(model, strategy=strategy)
    session.feed(processor.encode([{"role": "user", "content": "Hi"}], prompt=True))
    for run in (
        lambda: list(session.text(max_tokens=2)),
        lambda: session.draw([1, 2]),
        lambda: session.draw([1, 2], guidance=Constant(2.0)),
        session.action,
    ):
        with pytest.raises(ValueError, match="predicts logits that are not finite"):
            run()


# Weights --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_that_are_not_finite_are_named(value, dtype):
    good = torch.randn(4, 5, dtype=dtype)
    bad = good.clone()
    bad[2, 3] = value
    check_weights({"a": good, "n": torch.arange(3), "empty": torch.zeros(0)})
    with pytest.raises(ValueError, match=r"b\.weight: 1 of 20 weights are NaN or infinite"):
        check_weights({"a": good, "b.weight": bad})


def test_a_folder_with_damaged_weights_is_refused(model, tmp_path):
    damaged, processor = random_model()
    with torch.no_grad():
        name, weight = list(damaged.named_parameters())[-1]
        weight.view(-1)[0] = NAN
    save_model(tmp_path, damaged, processor)
    with pytest.raises(ValueError, match=f"model.safetensors: {name}: 1 of"):
        load_model(tmp_path)
    with pytest.raises(ValueError, match="NaN or infinite"):
        unified.load(tmp_path)
