"""How extras begin in a new model, and that loaded weights stay."""

import torch

from unified.model import UnifiedConfig, UnifiedModel

EXTRAS = {"reference": {}, "own_state": {}, "copy_gate": {}, "transition": {}, "grid": {}}


def test_extras_begin_as_they_say_and_loaded_ones_stay(tmp_path):
    torch.manual_seed(0)
    model = UnifiedModel(UnifiedConfig(vocabulary={"action": 8, "action_slots": 2}, extras=EXTRAS))
    extras = model.extras
    assert not extras["copy_gate"].gate.weight.any()
    assert not extras["own_state"].out.weight.any()
    assert not extras["transition"].exit.weight.any()
    projection = extras["reference"].projection.weight
    torch.testing.assert_close(projection, torch.eye(len(projection)) / 2)
    with torch.no_grad():
        for weight in extras.parameters():
            weight.add_(0.25)
    model.save_pretrained(tmp_path)
    loaded = UnifiedModel.from_pretrained(tmp_path)
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
