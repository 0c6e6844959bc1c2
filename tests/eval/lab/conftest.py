"""Tiny grounds of the laboratory, with random weights."""

import pytest
from unified.eval.lab.ground.bases import BASES, new_model
from unified.eval.lab.ground.ground import Ground
from unified.eval.lab.ground.tokenizers import TOKENIZERS, new_tokenizer
from unified.eval.lab.sizes import TOY


@pytest.fixture(scope="session")
def make_ground(tmp_path_factory):
    """A function that makes a ground of some base models and tokenizers."""

    def make(*bases: str, tokenizers=tuple(TOKENIZERS)) -> Ground:
        folder = tmp_path_factory.mktemp("ground")
        found = Ground(TOY, folder / "weights", folder / "cache")
        for name in tokenizers:
            found.keep(name, new_tokenizer(name, TOY.tokenizer))
        for name in bases:
            found.keep(name, new_model(BASES[name], TOY))
        return found

    return make
