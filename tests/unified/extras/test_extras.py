"""What must hold for every extra, alone and with all others. A new extra is picked up by itself."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from unified.decoding.session import Session
from unified.extras import EXTRAS, check_extras
from unified.layout.layout import Layout
from unified.model import UnifiedConfig, UnifiedModel
from unified.pretrained import SHIPPED, load_model
from unified.stream.migration import FORMER, WEIGHTS, migrated, weight_name

ACTIONS = (tuple(range(11)), tuple(range(20, 31)))


def chosen(name):
    """The extra, with one of those that it needs."""
    return {name: {}, **{other: {} for other in EXTRAS[name][1].needs[:1]}}


CASES = {name: chosen(name) for name in EXTRAS} | {"all": {name: {} for name in EXTRAS}, "none": {}}


@pytest.fixture(scope="module", params=CASES)
def extras(request):
    return CASES[request.param]


@pytest.fixture(scope="module", params=[0, 2], ids=["plain", "merged"])
def model(request, extras, make_model):
    """With weights of which none is zero, so that every extra shows."""
    model = make_model(vocabulary={"merge": request.param}, extras=extras)
    with torch.no_grad():
        for parameter in model.extras.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def prompt(words, first=5, action=ACTIONS[0], side=4):
    """An image, and an action after which the next one is to be drawn."""
    codes = [(first + n) % words.visual for n in range(side * side)]
    image = words.read_segment(codes, [(side, side)])
    ids = [words.begin, words.user, *image, words.end, words.user]
    return [*ids, *(words.action_start + number for number in action), words.end, words.assistant]


@torch.no_grad()
def test_stepwise_equals_one_pass_whatever_the_other_rows_hold(model):
    """Two frames in a row; each row is as it is alone."""
    words = model.vocabulary
    prompts = [prompt(words), prompt(words, 20, ACTIONS[1])]
    both = Session(model, rows=2, seed=[3, 4])
    both.feed(prompts)
    drawings = []
    for _ in range(2):
        drawings.append(both.draw([1, 2, 4]))
        both.feed([words.end, *prompts[0][-14:]])
    for row, ids in enumerate(both.streams):
        whole = model(torch.tensor([ids])).log_probs[0]
        slots = Layout.of([ids], words).writes[0].slots()
        for place, drawing in zip(slots, drawings, strict=True):
            torch.testing.assert_close(whole[place], drawing.log_probs[row], atol=1e-3, rtol=0)
        alone = Session(model, seed=3 + row)
        alone.feed(prompts[row])
        assert torch.equal(alone.draw([1, 2, 4]).codes[0], drawings[0].codes[row])


@torch.no_grad()
def test_no_leak(model):
    """Another code at a slot changes no prediction of the same or an earlier step, nor of what comes after
    the WRITE segment: float64, tolerance 0."""
    words = model.vocabulary
    double = UnifiedModel(model.config).double().eval()
    double.load_state_dict(model.state_dict())
    header = words.open_write("next_scale", [(1, 1), (2, 2), (4, 4)])
    written = words.visual_ids([n % words.visual for n in range(21)])
    read = words.read_segment([n % words.visual for n in range(5, 21)], [(4, 4)])
    ids = torch.tensor([[*prompt(words), *header, *written, words.close, *read, 9, 9, words.end]])
    layout = Layout.of(ids, words)
    first, labels = int(layout.writes[0].starts[0]), layout.writes[0].plan.labels
    before = double(ids, layout=layout, return_logits=True).logits[0]
    for slot in (0, 3, 20):
        other = ids.clone()
        other[0, first + slot] = words.visual_start + 7
        after = double(other, layout=layout, return_logits=True).logits[0]
        same = (after == before).all(dim=-1) | ~layout.predicted[0]
        assert same[:first].all()
        assert same[first : first + 21][labels <= labels[slot]].all()
        assert same[first + 21 :].all()
        assert labels[slot] == 2 or not same[first : first + 21].all()


def test_weights_and_configuration_survive_a_round_trip(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == set(model.state_dict())
    again = UnifiedModel.from_pretrained(tmp_path)
    assert again.config.extras == model.config.extras
    ids = torch.tensor([prompt(model.vocabulary)])
    assert torch.equal(again.eval()(ids).log_probs, model(ids).log_probs)


def test_every_weight_learns_and_has_a_gradient_without_images_too(model):
    model.train()
    words = model.vocabulary
    header = words.open_write("next_scale", [(1, 1), (4, 4)])
    frame = [*prompt(words), *header, *words.visual_ids(range(17)), words.close, words.end]
    for ids in (frame, [words.begin, words.user, 5, words.end, words.assistant, 6, words.end]):
        model.zero_grad()
        model(torch.tensor([ids]), labels=torch.tensor([ids])).loss.backward()
        gradients = {name: p.grad for name, p in model.extras.named_parameters()}
        assert all(gradient is not None for gradient in gradients.values())
        assert ids is not frame or all(gradient.abs().sum() > 0 for gradient in gradients.values())
    model.zero_grad()
    model.eval()


@pytest.mark.parametrize("name", EXTRAS)
def test_it_changes_what_is_predicted(name, make_model):
    """Against the same model with the extra left out."""
    model = make_model(extras=CASES["all"])
    without = make_model(extras={other: {} for other in EXTRAS if other != name})
    without.load_state_dict(
        {key: value for key, value in model.state_dict().items() if not key.startswith(f"extras.{name}.")}
    )
    words = model.vocabulary
    header = words.open_write("next_scale", [(1, 1), (4, 4)])
    ids = torch.tensor([[*prompt(words), *header, *words.visual_ids(range(17)), words.close, words.end]])
    assert not torch.allclose(without(ids).log_probs, model(ids).log_probs, atol=1e-3)


@pytest.mark.parametrize(
    ("extras", "message"),
    [
        ({"mirror": {}}, "unknown extra 'mirror': choose from transition, reference"),
        ({"grid": {"columns": 3}}, "the extra grid: .*columns"),
        ({"grid": {"frequencies": 0}}, "the extra grid: frequencies must be at least 1, got 0"),
        ({"transition": {"channels": -1}, "reference": {}}, "channels must be a whole number .*, got -1"),
        ({"transition": {}, "own_state": {}}, "transition is of no use alone: add reference or copy_gate"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(extras, message):
    for refuse in (check_extras, lambda found: UnifiedConfig(extras=found)):
        with pytest.raises(ValueError, match=message) as refusal:
            refuse(extras)
        assert "\n" not in str(refusal.value)


def test_a_decoder_without_axes_for_rows_and_columns_has_the_grid():
    llama = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    assert UnifiedConfig(backbone=llama).extras == {"grid": {}}
    coarse = {"grid": {"frequencies": 2}}
    assert UnifiedConfig(backbone=llama, extras=coarse).extras == coarse
    assert UnifiedConfig().extras == {}


# The form before -------------------------------------------------------------------------------------------

FORMER_CONFIG = {"references": True, "copies": True, "transition": 8, "grid": True}
TODAY = {"reference": {}, "copy_gate": {}, "transition": {"channels": 8}, "grid": {}}


def test_configurations_of_the_former_form_are_migrated():
    merged = {"merge": 2}
    assert migrated(FORMER_CONFIG) == {"extras": TODAY}
    assert migrated({**FORMER_CONFIG, "vocabulary": merged})["extras"] == {**TODAY, "own_state": {}}
    assert migrated({**FORMER_CONFIG, "vocabulary": {"fold": 2}})["extras"] == {**TODAY, "own_state": {}}
    assert migrated(dict.fromkeys(FORMER, 0)) == {"extras": {}}
    today = {"extras": TODAY, "vocabulary": merged}
    assert migrated(today) == today
    assert UnifiedConfig(**FORMER_CONFIG).extras == TODAY
    assert UnifiedConfig(vocabulary=merged).extras == {"own_state": {}}
    assert UnifiedConfig(vocabulary=merged, extras={}).extras == {}
    with pytest.raises(ValueError, match="named twice: put references into"):
        UnifiedConfig(references=True, extras={"copy_gate": {}})


def former_names(state):
    """A state dict under the names of before."""
    back = {new: old for old, new in WEIGHTS.items()}
    found = {}
    for name, value in state.items():
        prefix = next((new for new in back if name.startswith(new)), None)
        found[back[prefix] + name.removeprefix(prefix) if prefix else name] = value
    return found


def test_a_folder_of_the_former_form_loads_and_is_saved_in_that_of_today(make_model, tmp_path):
    model = make_model(vocabulary={"merge": 2})
    model.save_pretrained(tmp_path)
    state = former_names(load_file(tmp_path / "model.safetensors"))
    assert {
        "slots.copying.bias",
        "slots.own.out.weight",
        "grid.projection.weight",
        "fold.merging.weight",
    } < set(state)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict()
    del config["extras"]
    config["vocabulary"]["fold"] = config["vocabulary"].pop("merge")
    (tmp_path / "config.json").write_text(json.dumps({**config, **FORMER_CONFIG}))
    again = UnifiedModel.from_pretrained(tmp_path).eval()
    ids = torch.tensor([prompt(model.vocabulary)])
    assert torch.equal(again(ids).log_probs, model(ids).log_probs)
    again.save_pretrained(tmp_path / "again")
    assert set(load_file(tmp_path / "again" / "model.safetensors")) == set(model.state_dict())
    fresh = UnifiedModel(model.config)
    fresh.load_state_dict(state)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in fresh.state_dict().items())


@pytest.mark.skipif(not (SHIPPED / "config.json").is_file(), reason="this copy ships no trained weights")
def test_every_weight_of_the_shipped_model_has_its_place():
    saved = load_file(SHIPPED / "model.safetensors")
    model, _ = load_model(SHIPPED)
    state = model.state_dict()
    assert {weight_name(name) for name in saved} == set(state)
    for name, value in saved.items():
        assert torch.equal(state[weight_name(name)], value.float())
    assert model.config.extras == {**TODAY, "transition": {"channels": 104}, "own_state": {}}
