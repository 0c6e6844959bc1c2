"""Arms at toy size: results as JSON, a table, a picture; what is asked for wrongly is one line."""

import json

import pytest

pytest.importorskip("trl", reason="TRL comes with the extra `train`")

from unified.train.experiments.preference import ARMS, main, weakened


def run(smoke, folder, *words):
    options = ["--start", str(smoke / "model"), "--work", str(folder / "work"), "--out", str(folder / "out")]
    return main([*words, *options])


def test_arms_at_toy_size(smoke, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("unified.train.experiments.preference.SEEDS", (0,))
    for arm in ("absent_sum", "absent_supervised", "draw_map", "draw_cca"):
        status = run(smoke, tmp_path, arm, "--toy")
        said = capsys.readouterr().err
        same = "no prompt has replies of different scores" in said
        assert status == (2 if same else 0), said  # of a model that knows nothing all replies may be as wrong
    out = tmp_path / "out"
    found = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    assert found.keys() >= {"absent_supervised", "draw_cca"}
    assert found["draw_cca"]["before_guided"] is not None
    assert all(0 <= seed["right"] <= 1 for result in found.values() for seed in result["seeds"])
    capsys.readouterr()
    (out / "draw_sum.json").write_text(json.dumps(example()))
    assert run(smoke, tmp_path, "plot") == 0
    assert "| draw_sum | DPO | 50.0% | - | 65.0% (60.0% to 70.0%) | 2 |" in capsys.readouterr().out
    assert (out / "training.png").stat().st_size > 1000


def example():
    log = [
        {
            "step": n,
            "loss": 0.6,
            "rewards/margins": n / 10,
            "logps/chosen": -5.0 - n,
            "logps/map_0/chosen": -1.0,
        }
        for n in range(1, 4)
    ]
    seeds = [{"seed": n, "right": 0.6 + n / 10, "log": log} for n in range(2)]
    return {"arm": "draw_sum", "what": "DPO", "before": 0.5, "seeds": seeds}


def test_a_start_is_weakened_by_a_seed(smoke, tmp_path):
    paths = [weakened(smoke / "model", tmp_path / name, 0.5) for name in ("a", "b")]
    assert (
        paths[0].joinpath("model.safetensors").read_bytes()
        == paths[1].joinpath("model.safetensors").read_bytes()
    )
    before = (smoke / "model" / "model.safetensors").read_bytes()
    assert paths[0].joinpath("model.safetensors").read_bytes() != before


def test_arms_are_listed_and_unknown_ones_refused(capsys):
    assert main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(ARMS)
    assert main(["best"]) == 2
    assert "unknown arm 'best'" in capsys.readouterr().err
