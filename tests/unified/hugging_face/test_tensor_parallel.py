"""A model split over two processes computes what it computes in one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unified.apps.demo import random_model
from unified.hugging_face.tensor_parallel import PLAN, check_split, load_parallel
from unified.pretrained import save_model

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("split") / "tiny"
    save_model(folder, *random_model())
    return folder


def test_the_plan_names_every_product_of_the_layers():
    names = dict(random_model()[0].named_modules())
    split = {name.replace("*", "0") for name in PLAN}
    products = {
        name for name, module in names.items() if ".layers.0." in name and hasattr(module, "in_features")
    }
    assert split == products


def test_it_needs_processes_and_heads_for_each(folder, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ValueError, match="torchrun"):
        load_parallel(folder)
    config = random_model()[0].config
    check_split(config, 2)
    with pytest.raises(ValueError, match="num_attention_heads is 4, no multiple of the 3"):
        check_split(config, 3)
    with pytest.raises(ValueError, match="num_key_value_heads"):
        check_split(config, 4)
    monkeypatch.setattr(config, "read_outs", 2)
    with pytest.raises(ValueError, match="default decoder"):
        check_split(config, 2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="no-such-folder"):
        load_parallel("no-such-folder")


@pytest.mark.slow
def test_two_processes_give_the_logits_and_samples_of_one(folder, tmp_path):
    script = Path(__file__).with_name("two_parts.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([*command, str(script), str(folder), str(tmp_path)], check=True, env=environment)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    heads = random_model()[0].backbone.layers[0].self_attn.q_proj.out_features
    assert first["rows"] == second["rows"] == heads // 2
    for found in (first, second):
        assert found["logits"] < 1e-5
        assert found["log_probs"] < 1e-5
        assert found["streams"]
        assert not found["fused"]
    assert first["drawn"] == second["drawn"]
