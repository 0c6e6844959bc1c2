"""TokenBridge on tiny random modules: channel orders, guidance on features, runs independent of the batch."""

import pytest
import torch
from unified.tokenizers.scalar_quantiser import ScalarQuantiser

from unified.checkpoints.mar.network import MAR, MARConfig
from unified.checkpoints.mar.sampling import MaskedDecoding
from unified.checkpoints.tokenbridge.network import OUTPUT, TokenBridge, load
from unified.checkpoints.tokenbridge.sampling import sample
from unified.decoding.noise import PositionNoise
from unified.heads.channel_codes import ChannelPredictor
from unified.orders.masked_schedule import shuffled_orders

LABELS = torch.tensor([1, 3])


def tiny(bits=3, order=(2, 0, 1)):
    torch.manual_seed(0)
    backbone = MAR(MARConfig(channels=3, tokens=6, classes=4, width=12))
    head = ChannelPredictor(12, 3, 2**bits, 8, 2, 2, 12)
    model = TokenBridge(backbone, head, ScalarQuantiser(bits), order)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def test_channels_are_ordered_and_put_back():
    model, codes = tiny(), torch.randint(8, (2, 6, 3))
    assert torch.equal(model.ordered(codes)[..., 0], codes[..., 2])
    assert torch.equal(model.unordered(model.ordered(codes)), codes)
    with pytest.raises(ValueError, match="must name each once"):
        tiny(order=(0, 0, 1))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_is_the_same_alone_and_in_a_batch(temperature):
    model, orders = tiny(), shuffled_orders(2, (6,), 1)
    settings = MaskedDecoding(steps=8, scale=2.0, temperature=temperature)  # some steps write nothing
    both = sample(model, LABELS, orders, PositionNoise([3, 4]), settings)
    for row in range(2):
        one = slice(row, row + 1)
        alone = sample(model, LABELS[one], orders[one], PositionNoise([3 + row]), settings)
        assert torch.equal(alone[0], both[row])
    other = sample(model, LABELS, orders, PositionNoise([9, 9]), settings)
    assert torch.equal(other, both) is (temperature == 0)


@torch.no_grad()
def test_the_loss_is_the_mean_cross_entropy_of_masked_tokens():
    model, codes = tiny(), torch.randint(8, (2, 6, 3))
    mask, hidden = torch.rand(2, 6) < 0.5, torch.randn(2, 6, 12)
    total = []
    for row, token in mask.nonzero().tolist():
        wanted = model.ordered(codes[row, token])[None]
        logits = model.head(hidden[row, token][None], wanted).log_softmax(dim=-1)
        total.append(-logits.gather(-1, wanted[..., None]).mean())
    torch.testing.assert_close(model.loss(hidden, codes, mask), torch.stack(total).mean())


def test_weights_are_loaded_by_their_official_names():
    model, state = tiny(order=(0, 1, 2)), {}
    for name, value in model.state_dict().items():
        own = name.removeprefix("head.").removeprefix("backbone.")
        state[own.replace("diffusion_pos_embed_learned", OUTPUT)] = value
    levels = model.quantiser.levels + 1e-3
    loaded = load({**state, "reconstruction_values": levels}, 2, 2, ScalarQuantiser(3))
    assert torch.equal(loaded.quantiser.levels, levels)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    with pytest.raises(ValueError, match="a quantiser of 16 codes"):
        load(state, 2, 2, ScalarQuantiser(4))
