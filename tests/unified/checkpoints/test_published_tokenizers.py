"""Published tokenizers behind the interface of all: they conform, give the codes of their packs, and what
cannot be one is refused."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from unified.eval.tokenizer_conform import tokenizer_checks
from unified.tokenizers.reconstruction import reconstruct

from unified.pretrained import load_tokenizer

sys.path.insert(0, str(Path(__file__).parents[2]))
from golden_folders import GOLDEN, needs


@needs("gigatok")
def test_gigatok_gives_the_codes_of_its_pack_and_conforms():
    tokenizer, stored = load_tokenizer(GOLDEN / "gigatok"), load_file(GOLDEN / "gigatok" / "io.safetensors")
    found = reconstruct(tokenizer, stored["image"])
    assert torch.equal(found.ids[0], stored["ids"].flatten(1))
    assert torch.allclose(found.images, stored["dec_from_ids"].clamp(-1, 1), atol=1e-4)
    assert [str(check) for check in tokenizer_checks(tokenizer) if not check.ok] == []


@needs("larp")
def test_larp_conforms():
    tokenizer = load_tokenizer(GOLDEN / "larp")
    assert tokenizer.frames > 1
    assert [str(check) for check in tokenizer_checks(tokenizer) if not check.ok] == []


@needs("hita")
def test_hita_needs_its_teacher():
    tokenizer = load_tokenizer(GOLDEN / "hita")
    images = torch.zeros(1, 3, tokenizer.side, tokenizer.side)
    with pytest.raises(ValueError, match="set its `teacher`"):
        tokenizer.encode(images)
    tokenizer.teacher = lambda images: torch.zeros(len(images), tokenizer.config.features, 2, 2)
    assert tokenizer.encode(images)[0].shape == (1, tokenizer.line)


@needs("llamagen_tokenizer", "var_tokenizer", "flexvar_tokenizer", "infinity_bsq")
@pytest.mark.parametrize("pack", ["llamagen_tokenizer", "var_tokenizer", "flexvar_tokenizer", "infinity_bsq"])
def test_others_reconstruct(pack):
    tokenizer = load_tokenizer(GOLDEN / pack)
    side = 4 * tokenizer.stride
    assert reconstruct(tokenizer, torch.zeros(1, 3, side, side)).images.shape == (1, 3, side, side)


@needs("fvq", "selftok")
@pytest.mark.parametrize(
    ("pack", "reason"), [("fvq", "is a codebook, without networks"), ("selftok", "the latents of another")]
)
def test_what_reads_no_images_is_refused(pack, reason):
    with pytest.raises(ValueError, match=reason):
        load_tokenizer(GOLDEN / pack)


def test_folders_without_a_tokenizer_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        load_tokenizer(tmp_path / "none")
    with pytest.raises(ValueError, match=r"neither visual_config.json nor config.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="no published tokenizer"):
        load_tokenizer(tmp_path)
