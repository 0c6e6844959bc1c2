"""The mean of models."""

import pytest
import torch
from unified.train.prune import pruned
from unified.train.soup import main, mean

from unified.apps.demo import random_model
from unified.pretrained import load_model, save_model


def test_every_weight_is_the_mean(tmp_path):
    states = []
    for number in range(3):
        model, processor = random_model(seed=number)
        save_model(tmp_path / str(number), model, processor)
        states.append(load_model(tmp_path / str(number))[0].state_dict())
    where = ["--model", str(tmp_path / "0"), "--out", str(tmp_path / "mean")]
    assert main([*where, "--with", str(tmp_path / "1"), str(tmp_path / "2")]) == 0
    found = load_model(tmp_path / "mean")[0].state_dict()
    assert set(found) == set(states[0])
    differing = 0
    for name, value in found.items():
        one, two, three = (state[name].float() for state in states)
        torch.testing.assert_close(value.float(), (one + two + three) / 3)
        differing += not torch.equal(one, two)
    assert differing > 10


def test_what_has_no_mean_is_refused_in_one_line(tmp_path, capsys):
    model, processor = random_model()
    other = pruned(model, 64)
    with pytest.raises(ValueError, match="one shape"):
        mean([model, other])
    save_model(tmp_path / "one", model, processor)
    save_model(tmp_path / "other", other, processor)
    for others in (str(tmp_path / "other"), str(tmp_path / "nowhere")):
        with pytest.raises(SystemExit) as stopped:
            main(["--model", str(tmp_path / "one"), "--out", str(tmp_path / "mean"), "--with", others])
        assert stopped.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "mean").exists()
