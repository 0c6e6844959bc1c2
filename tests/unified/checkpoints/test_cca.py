"""Condition contrastive alignment against the losses of its two published trainers."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unified.checkpoints.__main__ import main

PACK = Path(__file__).parents[4] / "shared" / "golden" / "cca"
needs_golden = pytest.mark.skipif(
    not PACK.is_dir(), reason="the reference vectors (../shared/golden) are absent"
)


@needs_golden
def test_every_tensor_of_the_published_trainers_agrees(capsys):
    assert main(["verify", str(PACK)]) == 0
    lines = capsys.readouterr().out.splitlines()
    skipped = {line.split()[1] for line in lines if line.startswith("skip")}
    inputs = {"ids", "labels", "policy_logits", "reference_logits", "var.input"}
    assert skipped == {f"{name}:" for name in inputs | {"llamagen.ids", "llamagen.labels"}}
    assert len(lines) == len(load_file(PACK / "io.safetensors")) + 1


@needs_golden
@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("given.var.cca_paper.loss", 1e-4),
        ("given.llamagen.cca_no_null.loss", 1e-3),
        ("given.var.dpo.grad_policy_logits", 1e-4),
        ("given.llamagen.unlearning.negative_img_ref_logps", 0.01),
        ("given.var.cca_large.weight", 1.0),
        ("given.var.cca_paper.positive_mask", 1),
        ("given.var.cca_paper.null_mask", 1),
        ("given.var.dpo.accuracy", 0.1),
        ("model.var.policy_logits", 1e-2),
        ("model.llamagen.grad_norm_all", 1e-3),
        ("model.llamagen.model_labels", 1),
    ],
)
def test_a_changed_number_is_noticed(name, by, tmp_path, capsys):
    shutil.copytree(PACK, tmp_path / "pack")
    tensors = load_file(PACK / "io.safetensors")
    changed = tensors[name].clone()
    changed.view(-1)[0] = (
        changed.view(-1)[0] ^ 1 if changed.dtype == torch.uint8 else changed.view(-1)[0] + by
    )
    save_file({**tensors, name: changed}, tmp_path / "pack" / "io.safetensors")
    assert main(["verify", str(tmp_path / "pack")]) == 1
    assert f"FAIL {name}:" in capsys.readouterr().out


@needs_golden
@pytest.mark.parametrize("key", ["beta", "lambda_", "seed"])
def test_changed_options_are_noticed(key, tmp_path, capsys):
    shutil.copytree(PACK, tmp_path / "pack")
    config = json.loads((PACK / "config.json").read_text())
    config["cases"]["cca_paper"][key] *= 3
    (tmp_path / "pack" / "config.json").write_text(json.dumps(config))
    assert main(["verify", str(tmp_path / "pack")]) == 1
    assert "FAIL given.var.cca_paper." in capsys.readouterr().out


# Other folders of the form ----------------------------------------------------------------------------------


def written(folder, *, rows=4, length=5, codes=11, beta=0.07, lambda_=4.0, ratio=0.5, seed=4):
    """A folder whose loss is computed pair by pair, in plain arithmetic."""
    rng = torch.Generator().manual_seed(seed)
    policy, reference = (torch.randn(2 * rows, length, codes, generator=rng) for _ in range(2))
    labels = torch.randint(1000, (rows,), generator=rng)
    ids = torch.randint(codes, (rows, length), generator=rng)
    null = torch.rand(rows, generator=torch.Generator().manual_seed(seed)) < ratio
    assert null.any()
    assert not null.all()
    total = 0.0
    for row in range(rows):
        r = []
        for number in (row, rows + row):
            pairs = [(policy[number, n], reference[number, n], ids[row, n]) for n in range(length)]
            r.append(sum(float(p.log_softmax(-1)[i] - q.log_softmax(-1)[i]) for p, q, i in pairs))
        equal = bool(null[row]) or labels[row] == labels[(row + 1) % rows]
        sign, weight = (1.0, 1.0) if equal else (-1.0, lambda_)
        loss = [torch.tensor(-beta * r[0]), torch.tensor(-sign * beta * r[1])]
        total += float(loss[0].exp().log1p() + weight * loss[1].exp().log1p()) / max(lambda_, 1)
    found = {
        "labels": labels,
        "ids": ids,
        "policy_logits": policy,
        "reference_logits": reference,
        "given.var.mine.loss": torch.tensor(total / rows),
        "given.var.mine.null_mask": null.to(torch.uint8),
        "given.var.mine.img_logps": policy[:rows].log_softmax(-1).gather(-1, ids[..., None])[..., 0].sum(1),
    }
    folder.mkdir()
    save_file(found, folder / "io.safetensors")
    case = {"loss_type": "CCA", "beta": beta, "lambda_": lambda_, "uncond_ratio": ratio, "seed": seed}
    (folder / "config.json").write_text(json.dumps({"case": "cca", "cases": {"mine": case}}))
    return folder


@pytest.mark.parametrize("sizes", [{}, {"rows": 7, "length": 30, "codes": 5, "lambda_": 0.4, "seed": 8}])
def test_folders_of_other_sizes_are_verified(sizes, tmp_path, capsys):
    assert main(["verify", str(written(tmp_path / "one", **sizes))]) == 0
    assert "ok   given.var.mine.loss" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [({"loss_type": "SFT"}, "unknown loss_type 'SFT'"), ({"beta": None}, "lacks beta")],
)
def test_unknown_and_missing_options_are_one_line(change, words, tmp_path, capsys):
    folder = written(tmp_path / "one")
    config = json.loads((folder / "config.json").read_text())
    case = {**config["cases"]["mine"], **change}
    config["cases"]["mine"] = {name: value for name, value in case.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    assert main(["verify", str(folder)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
