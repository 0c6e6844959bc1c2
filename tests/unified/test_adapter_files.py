"""Small adapters: files that know their base, and changes that can be stacked and taken away."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from unified.adapter_files import (
    AdapterFile,
    AdapterSet,
    difference,
    fingerprint,
    load_part,
    read_adapter,
    save_adapter,
    save_part,
)
from unified.backbone.parts import CONTROLS, PARTS


def base(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def changes(seed, *names):
    rng = torch.Generator().manual_seed(seed)
    shapes = {"0.weight": (4, 3), "0.bias": (4,)}
    return {name: torch.randn(shapes[name], generator=rng) for name in names}


def test_the_fingerprint_is_of_names_shapes_types_and_bits():
    model = base()
    assert fingerprint(model) == fingerprint(base())
    found = {fingerprint(model)}
    with torch.no_grad():
        model[0].weight[0, 0] += 1e-6
    found.add(fingerprint(model))
    found.add(fingerprint(base().double()))
    found.add(fingerprint(nn.Sequential(*reversed(list(base())))))
    assert len(found) == 4


def test_changes_add_up_and_are_taken_away_in_any_order_bit_for_bit():
    model, weights = base(), base().state_dict()
    adapters = AdapterSet(model)
    one, two = changes(1, "0.weight", "0.bias"), changes(2, "0.weight")
    adapters.add("one", one)
    adapters.add("two", two)
    assert torch.equal(model[0].weight, weights["0.weight"] + one["0.weight"] + two["0.weight"])
    adapters.remove("one")
    assert torch.equal(model[0].weight, weights["0.weight"] + two["0.weight"])
    assert torch.equal(model[0].bias, weights["0.bias"])
    adapters.remove("two")
    assert fingerprint(model) == adapters.hash
    assert adapters.names == []


def test_what_was_tuned_is_had_back_of_a_file(tmp_path):
    tuned, model, path = base(1), base(), tmp_path / "a.safetensors"
    saved = AdapterFile("subject", difference(tuned, model, ["0.weight"]), fingerprint(model), "Base")
    save_adapter(path, saved)
    adapters = AdapterSet(model)
    assert adapters.load("a", path).kind == "subject"
    assert torch.allclose(model[0].weight, tuned[0].weight, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("here", {"0.bias": torch.zeros(4)}, "'here' is in the set"),
        ("other", {"1.wait": torch.zeros(4)}, r"'other' changes 1\.wait"),
        ("other", {"0.bias": torch.zeros(3)}, "weights do not fit"),
        ("other", {"0.bias": torch.full((4,), torch.nan)}, "0.bias"),
    ],
)
def test_what_does_not_fit_changes_nothing(name, given, words):
    model = base()
    adapters = AdapterSet(model)
    adapters.add("here", changes(1, "0.bias"))
    before = fingerprint(model)
    with pytest.raises(ValueError, match=words) as error:
        adapters.add(name, given)
    assert len(str(error.value).splitlines()) == 1
    assert fingerprint(model) == before
    with pytest.raises(ValueError, match="no adapter called 'other'"):
        adapters.remove("other")


def test_another_base_is_refused_by_name(tmp_path):
    path = tmp_path / "a.safetensors"
    save_adapter(path, AdapterFile("style", changes(1, "0.bias"), fingerprint(base()), "Infinity 2B"))
    with pytest.raises(ValueError, match=r"made for Infinity 2B \(\w{12}\), but this Sequential is \w{12}"):
        AdapterSet(base(1)).load("a", path)


def test_a_file_that_is_no_adapter_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="its header lacks kind, options, base"):
        read_adapter(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"nothing\.safetensors"):
        read_adapter(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("kind", ["adapter", "prefix", "scale_control", "reference_attention"])
def test_parts_around_layers_are_files_too(kind, tmp_path):
    path, part = tmp_path / "part.safetensors", {**PARTS, **CONTROLS}[kind](layers=(0, 2))
    for parameter in part.parameters():
        nn.init.normal_(parameter)
    save_part(path, kind, part, base(), layers=(0, 2))
    again = load_part(path, base())
    assert again.config == part.config
    assert all(torch.equal(*pair) for pair in zip(again.parameters(), part.parameters(), strict=True))
    with pytest.raises(ValueError, match="made for Sequential"):
        load_part(path, base(1))
    with pytest.raises(ValueError, match="unknown part 'hat'"):
        save_part(path, "hat", part, base())
    save_adapter(path, AdapterFile("hat", {}, fingerprint(base())))
    with pytest.raises(ValueError, match="unknown kind 'hat'"):
        load_part(path, base())
