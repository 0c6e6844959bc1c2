"""The yardstick is a fair one: it computes what our own generation computes."""

import torch
import torch.nn.functional as F
from unified.eval.bench.baseline import PublishedVAR
from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.residual_vq import ResidualVQConfig, ResidualVQTokenizer

from unified.checkpoints.generation import generate
from unified.checkpoints.next_scale import finished
from unified.checkpoints.published import config_from
from unified.checkpoints.var import VAR
from unified.decoding.guidance import Ramp
from unified.decoding.noise import GeneratorNoise
from unified.decoding.sampling import Sampler


def small() -> VAR:
    torch.manual_seed(0)
    sizes = (1, 2, 3)
    network = NetworkConfig(latent=8, width=32, multipliers=(1, 1))
    tokenizer = ResidualVQTokenizer(ResidualVQConfig(codes=64, network=network, sizes=sizes)).eval()
    options = {"num_classes": 5, "depth": 2, "embed_dim": 32, "num_heads": 2, "patch_nums": sizes}
    return VAR(config_from(options, codes=64, code_width=8), tokenizer).eval()


def test_the_published_way_gives_the_same_images():
    model = small()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    labels = torch.tensor([1, 4])
    made = generate(
        model,
        labels,
        model.config.shapes,
        guidance=Ramp(1.5),
        sampler=Sampler(top_k=20, top_p=0.9),
        noise=GeneratorNoise(torch.Generator().manual_seed(3)),
    )
    baseline = PublishedVAR(model)
    codes, total = baseline.generate(labels, 1.5, 20, 0.9, torch.Generator().manual_seed(3))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(made.codes, codes, strict=True))
    with torch.no_grad():
        torch.testing.assert_close(finished(model, made.vectors, model.config.shapes), total)
        image = model.decode(total)
        torch.testing.assert_close(baseline.decode(total), image, atol=1e-5, rtol=0)


def test_the_published_way_has_the_loss_and_gradients_of_our_training():
    model = small()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    shapes, tokenizer = model.config.shapes, model.needed_tokenizer()
    codes = torch.randint(64, (2, 14), generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([3, 0])
    vectors = tokenizer.transformer_inputs(codes.split([1, 4, 9], dim=1), shapes).detach()
    found = []
    for loss in (
        PublishedVAR(model).loss(labels, vectors, codes),
        F.cross_entropy(model(labels, vectors).flatten(0, 1), codes.flatten()),
    ):
        model.zero_grad()
        loss.backward()
        found.append((loss, model.blocks[0].attn.mat_qkv.weight.grad))
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(theirs, ours)


def test_the_published_way_computes_in_bfloat16_by_autocast():
    model = small()
    codes, total = PublishedVAR(model, autocast=True).generate(
        torch.tensor([1]), 1.5, 20, 0.9, torch.Generator().manual_seed(3)
    )
    assert [len(ids[0]) for ids in codes] == [1, 4, 9]
    assert model.head.weight.dtype == torch.float32  # the weights stay as they are
    assert total.isfinite().all()
