"""MAR on tiny random modules: patches, masks, schedules, and runs that do not depend on the batch."""

import pytest
import torch

from unified.checkpoints.mar.network import MAR, MARConfig, load, put_back, to_images, to_tokens, visible
from unified.checkpoints.mar.sampling import Entered, MaskedDecoding, sample
from unified.decoding.noise import PositionNoise
from unified.heads.denoiser import Denoiser
from unified.orders.masked_schedule import first_masked, masked_steps, shuffled_orders, training_rate


def tiny(seed=0, **sizes):
    torch.manual_seed(seed)
    config = MARConfig(**{"channels": 3, "tokens": 6, "classes": 4, "width": 16, "heads": 4, **sizes})
    model = MAR(config, Denoiser(config.width, config.channels, 12, 2))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def known(seed=3, rows=2, tokens=6, channels=3):
    generator = torch.Generator().manual_seed(seed)
    orders = torch.stack([torch.randperm(tokens, generator=generator) for _ in range(rows)])
    return torch.randn(rows, tokens, channels, generator=generator), orders


@pytest.mark.parametrize("patch", [1, 2, 3])
def test_patches_are_cut_and_joined_without_loss(patch):
    images = torch.randn(2, 5, 6, 12)
    tokens = to_tokens(images, patch)
    assert tokens.shape == (2, 72 // patch**2, 5 * patch**2)
    assert torch.equal(to_images(tokens, 6 // patch, patch), images)


def test_a_latent_that_is_not_cut_evenly_is_refused():
    with pytest.raises(ValueError, match="patches of 4"):
        to_tokens(torch.zeros(1, 2, 4, 6), 4)


def test_rows_go_back_to_their_places():
    rows, mask = torch.randn(2, 5, 3), torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 1, 1]]).bool()
    empty = torch.full((1, 1, 3), 9.0)
    assert torch.equal(put_back(visible(rows, mask), mask, empty), torch.where(mask[..., None], empty, rows))
    with pytest.raises(ValueError, match=r"equally many tokens, got \[1, 2\]"):
        visible(rows, torch.tensor([[1, 0, 0, 0, 0], [0, 0, 0, 1, 1]]).bool())


@torch.no_grad()
def test_unknown_tokens_have_no_effect_and_known_ones_have():
    model, (tokens, orders) = tiny(), known()
    mask, told = first_masked(orders, 4), model.classes(torch.tensor([1, 2]), 2)
    other = torch.where(mask[..., None], torch.randn_like(tokens), tokens)
    assert torch.equal(model(tokens, mask, told), model(other, mask, told))
    assert not torch.equal(model(tokens, mask, told), model(tokens + 1, mask, told))


@pytest.mark.parametrize(("count", "steps"), [(6, 4), (6, 6), (5, 9), (7, 1), (256, 64)])
def test_every_value_is_written_once(count, steps):
    made = masked_steps(count, steps)
    assert len(made) == steps
    assert sum(step.written for step in made) == count
    assert made[0].before == count
    assert [step.before for step in made[1:]] == [step.left for step in made[:-1]]
    assert made[-1].scale(3.0, count) == 1 + 2 * (count - 1) / count


def test_training_rates_are_quantiles_of_the_cut_normal_distribution():
    quantiles = torch.linspace(0, 1, 5, dtype=torch.float64)
    found = training_rate(quantiles)
    torch.testing.assert_close(found[[0, -1]], torch.tensor([0.7, 1.0], dtype=torch.float64))
    normal = torch.distributions.Normal(1.0, 0.25)
    low, high = normal.cdf(torch.tensor([0.7, 1.0], dtype=torch.float64))
    torch.testing.assert_close((normal.cdf(found) - low) / (high - low), quantiles)


def test_shuffled_orders_keep_their_parts_apart():
    orders = shuffled_orders(3, (4, 6), 1)
    assert torch.equal(orders[:, :4].sort().values, torch.arange(4).expand(3, -1))
    assert torch.equal(orders[:, 4:].sort().values, torch.arange(4, 10).expand(3, -1))
    assert not torch.equal(orders, shuffled_orders(3, (4, 6), 2))


SETTINGS = {"steps": 4, "scale": 2.0, "temperature": 0.9, "sections": (4, 3, 2, 0)}


def test_a_row_is_the_same_alone_and_in_a_batch():
    model, (_, orders), labels = tiny(), known(), torch.tensor([1, 3])
    settings = MaskedDecoding(**SETTINGS)
    both = sample(model, labels, orders, PositionNoise([5, 6]), settings)
    for row in range(2):
        alone = sample(
            model, labels[row : row + 1], orders[row : row + 1], PositionNoise([5 + row]), settings
        )
        torch.testing.assert_close(alone[0], both[row], rtol=1e-4, atol=1e-5)
    assert not torch.equal(both, sample(model, labels, orders, PositionNoise([5, 7]), settings))


def test_a_scale_of_one_is_bit_equal_to_no_guidance():
    model, (_, orders), labels = tiny(), known(), torch.tensor([1, 3])
    seen: list[Entered] = []
    plain = MaskedDecoding(steps=3, sections=(4, 3, 2, 0))
    found = sample(model, labels, orders, PositionNoise([1]), plain, seen.append)
    assert [len(step.hidden) for step in seen] == [2, 2, 2]
    same = MaskedDecoding(steps=3, sections=(4, 3, 2, 0), scale=1.0, linear=False)
    assert torch.equal(found, sample(model, labels, orders, PositionNoise([1]), same))


def test_guidance_without_labels_and_bad_settings_are_refused():
    with pytest.raises(ValueError, match="guidance needs labels"):
        sample(tiny(), None, known()[1], PositionNoise([1]), MaskedDecoding(scale=2.0))
    with pytest.raises(ValueError, match="steps"):
        MaskedDecoding(steps=0)
    with pytest.raises(ValueError, match="not a multiple of 3 heads"):
        MARConfig(width=16, heads=3)


def test_weights_are_loaded_by_their_official_names():
    model = tiny(depth=(2, 1), buffer=3)
    official = {"time.": "time_embed.mlp.", "condition.": "cond_embed.", "inputs.": "input_proj."}
    state = {}
    for name, value in model.state_dict().items():
        if name.startswith("diffloss."):
            own = name.removeprefix("diffloss.")
            head = "final_layer." if own.startswith(("outputs", "modulation", "norm")) else ""
            own = own.replace("blocks.", "res_blocks.").replace(".norm.", ".in_ln.")
            own = own.replace("modulation.", "adaLN_modulation.").replace("outputs.", "linear.")
            for ours, theirs in official.items():
                own = theirs + own.removeprefix(ours) if own.startswith(ours) else own
            name = f"diffloss.net.{head}{own}"
        state[name] = value
    loaded = load(state, 4)
    assert loaded.config == model.config
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    del state["mask_token"]
    with pytest.raises(ValueError, match="mask_token"):
        load(state, 4)
