"""The conformance suite: every registered kind passes it, and it finds faults."""

import pytest
import torch
from torch import nn
from unified.eval.tokenizer_conform import TESTS, named_checks, subject, tokenizer_checks
from unified.tokenizers.kinds import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_conforms(kind):
    failed = [str(check) for check in named_checks(kind) if not check.ok]
    assert not failed, "\n".join(failed)


class Careless(nn.Module):
    """Four colours of cells, with faults: its ids depend on the batch, and it takes whatever it is given."""

    codes, dim, stride = 4, 1, 2

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.linspace(-1, 1, 4)[:, None])

    def codebook(self):
        return self.table

    def vectors(self, ids):
        return self.table[ids]

    def encode(self, images, shapes=None):
        grey = nn.functional.avg_pool2d(images.mean(dim=1, keepdim=True), 2).flatten(1)
        grey = grey - grey.mean()
        return [(grey[..., None] - self.table[:, 0]).abs().argmin(dim=-1)]

    def decode_maps(self, ids, shapes):
        h, w = shapes[-1]
        return self.decode_vectors(self.vectors(ids[-1]).transpose(1, 2).unflatten(2, (h, w)))

    def decode_vectors(self, vectors):
        return vectors.repeat_interleave(2, 2).repeat_interleave(2, 3).expand(-1, 3, -1, -1)

    def read_shapes(self, shapes):
        return list(shapes)[-1:]


def test_faults_are_found():
    found = {check.what: check for check in tokenizer_checks(Careless())}
    assert list(found) == list(TESTS)
    failed = {what for what, check in found.items() if not check.ok}
    assert failed == {
        "each image of a batch is as it is alone",
        "bad images end in one line",
        "bad ids end in one line",
    }
    assert "bad input was taken" in str(found["bad images end in one line"])


def test_a_tokenizer_of_ones_own_is_named_by_its_module(monkeypatch):
    import sys
    from types import ModuleType

    module = ModuleType("my_tokenizers")
    module.careless = Careless
    monkeypatch.setitem(sys.modules, "my_tokenizers", module)
    assert isinstance(subject("my_tokenizers:careless"), Careless)
    with pytest.raises(ValueError, match="no attribute"):
        subject("my_tokenizers:other")
    with pytest.raises(ValueError, match="no tokenizer 'zebra': give module:NAME"):
        subject("zebra")
