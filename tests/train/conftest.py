"""One tiny run that the tests of training share."""

import shutil

import pytest
from unified.train.__main__ import main

QUIET = ["sheet_every=0", "save_every=3", "keep=4"]


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """The folder of a finished `nano_smoke` of 12 steps with checkpoints 3, 6, 9 and 12."""
    folder = tmp_path_factory.mktemp("train") / "smoke"
    settings = ["sheet_every=12", *QUIET[1:]]
    assert main(["nano_smoke", "--out", str(folder), "--cpu", "--workers", "1", "--override", *settings]) == 0
    return folder


@pytest.fixture
def begun(smoke, tmp_path):
    """A copy of that run without what came after the first stage's checkpoints."""
    folder = tmp_path / "run"
    shutil.copytree(smoke, folder)
    (folder / "stages" / "0-all" / "weights.safetensors").unlink()
    shutil.rmtree(folder / "model")
    return folder


@pytest.fixture
def train(smoke, tmp_path):
    """Run `nano_smoke` into a folder with the tokenizers and data of the shared run."""

    def run(*settings, out=tmp_path / "out", name="nano_smoke", **options):
        return main(arguments(smoke, out, *settings, name=name, **options))

    return run


def arguments(smoke, out, *settings, name="nano_smoke", deepspeed=None):
    shared = [f"text={smoke / 'text_tokenizer'}", f"visual={smoke / 'visual_tokenizer'}"]
    found = [name, "--out", str(out), "--data", str(smoke / "data"), "--cpu", "--workers", "1"]
    found += ["--deepspeed", deepspeed] if deepspeed else []
    return [*found, "--override", *shared, *QUIET, *settings]


@pytest.fixture(scope="session")
def make_arguments(smoke):
    return lambda *positional, **options: arguments(smoke, *positional, **options)
