"""Both visual tokenizers by what they promise: shapes, round trips, equivalences, refusals."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from unified.tokenizers.codebook import CodebookConfig, export
from unified.tokenizers.networks import Decoder, Encoder, NetworkConfig, lowest_frequencies
from unified.tokenizers.phi import PhiConfig, phi_index
from unified.tokenizers.quantise import CELLS, entropy_loss, k_means, most_aligned, nearest, usage
from unified.tokenizers.residual_vq import ResidualVQConfig, ResidualVQTokenizer
from unified.tokenizers.resize import area, as_shapes, unflatten
from unified.tokenizers.visual import check_maps
from unified.tokenizers.vq import VQConfig, VQTokenizer

TINY = NetworkConfig(latent=8, width=32, multipliers=(1, 1, 1), blocks=0, groups=8)
SHAPES = [(1, 1), (2, 2), (4, 4)]


def vq(**options) -> VQTokenizer:
    torch.manual_seed(0)
    return VQTokenizer(VQConfig(codes=64, dim=8, encoder=TINY, **options)).eval()


def residual(**options) -> ResidualVQTokenizer:
    torch.manual_seed(0)
    return ResidualVQTokenizer(ResidualVQConfig(codes=64, network=TINY, sizes=(1, 2, 4), **options)).eval()


def pictures(count: int = 2, height: int = 16, width: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


both = pytest.mark.parametrize("build", [vq, residual], ids=["vq", "residual"])


@both
def test_encode_and_decode_have_the_shapes_of_the_schedule(build):
    tokenizer = build()
    ids = tokenizer.encode(pictures(), SHAPES)
    assert [item.shape for item in ids] == [(2, 1), (2, 4), (2, 16)]
    assert all(item.dtype == torch.int64 and item.min() >= 0 and item.max() < 64 for item in ids)
    assert tokenizer.decode_maps(ids, SHAPES).shape == (2, 3, 16, 16)
    assert tokenizer.transformer_inputs(ids, SHAPES).shape == (2, 4 + 16, 8)


@both
def test_batch_and_single_images_agree(build):
    tokenizer = build()
    together = tokenizer.encode(pictures(3), SHAPES)
    for row in range(3):
        alone = tokenizer.encode(pictures(3)[row : row + 1], SHAPES)
        assert all(torch.equal(a[0], b[row]) for a, b in zip(alone, together, strict=True))


@both
def test_images_need_not_be_square(build):
    tokenizer = build()
    shapes = [(1, 2), (2, 3), (3, 5)]
    ids = tokenizer.encode(pictures(1, 12, 20), shapes)
    assert tokenizer.decode_maps(ids, shapes).shape == (1, 3, 12, 20)


@both
def test_read_part_is_enough_to_decode(build):
    tokenizer = build()
    ids = tokenizer.encode(pictures(), SHAPES)
    read = tokenizer.read_shapes(SHAPES)
    part = ids[-len(read) :]
    assert torch.equal(tokenizer.decode_maps(part, read), tokenizer.decode_maps(ids, SHAPES))


@both
def test_vectors_are_rows_of_the_codebook(build):
    tokenizer = build()
    ids = torch.tensor([[3, 0, 63]])
    assert torch.equal(tokenizer.vectors(ids)[0], tokenizer.codebook()[ids[0]])


@both
@pytest.mark.parametrize("kind", ["linear", "bridge"])
def test_exported_codebook_gives_identical_ids_and_images(build, kind):
    tokenizer = build(codebook=CodebookConfig(kind=kind, patch=4, width=16, blocks=1, heads=2))
    plain = export(tokenizer)
    assert plain.config.codebook.kind == "plain"
    ids = tokenizer.encode(pictures(), SHAPES)
    assert all(torch.equal(a, b) for a, b in zip(ids, plain.encode(pictures(), SHAPES), strict=True))
    assert torch.equal(tokenizer.decode_maps(ids, SHAPES), plain.decode_maps(ids, SHAPES))


@both
def test_a_gradient_to_one_code_of_a_bridge_moves_all(build):
    config = CodebookConfig(kind="bridge", patch=4, width=16, blocks=1, heads=2)
    tokenizer = build(codebook=config)
    before = tokenizer.codebook().detach().clone()
    tokenizer.vectors(torch.tensor([5])).sum().backward()  # of unit vectors: not their squares
    with torch.no_grad():
        for parameter in tokenizer.table.parameters():
            parameter -= 0.1 * parameter.grad
    assert bool((tokenizer.codebook() != before).any(dim=1).all())


@both
def test_bfloat16_decodes_and_encodes_float32_input(build):
    tokenizer = build().to(torch.bfloat16, memory_format=torch.channels_last)
    ids = tokenizer.encode(pictures(), SHAPES)
    images = tokenizer.decode_maps(ids, SHAPES)
    assert images.dtype == torch.bfloat16
    assert torch.isfinite(tokenizer.decode_vectors(torch.randn(1, 8, 2, 3))).all()


@both
def test_one_by_one_map_of_one_image_decodes_with_one_channel_per_group(build):
    narrow = NetworkConfig(latent=8, width=32, multipliers=(1,), blocks=0, groups=32)
    config = VQConfig(codes=64, dim=8, encoder=narrow)
    tokenizer = (
        VQTokenizer(config)
        if build is vq
        else ResidualVQTokenizer(ResidualVQConfig(network=narrow, sizes=(1,)))
    )
    assert tokenizer.decode_vectors(torch.randn(1, 8, 1, 1)).shape == (1, 3, 1, 1)


@both
@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (torch.zeros(2, 1, 16, 16), r"must be \[B, 3, H, W\], got \(2, 1, 16, 16\)"),
        (torch.zeros(3, 16, 16), r"must be \[B, 3, H, W\]"),
        (torch.zeros(1, 3, 16, 18), "multiples of 4, got 16 x 18"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), "float in"),
        (torch.zeros(1, 3, 0, 16), "multiples of 4"),
    ],
)
def test_bad_images_are_refused_in_one_line(build, images, reason):
    with pytest.raises(ValueError, match=reason) as error:
        build().encode(images, SHAPES)
    assert "\n" not in str(error.value)


@both
def test_bad_ids_are_refused(build):
    tokenizer = build()
    with pytest.raises(ValueError, match=r"in \[0, 64\), got 0 to 64"):
        tokenizer.vectors(torch.tensor([0, 64]))
    with pytest.raises(ValueError, match="int64"):
        tokenizer.vectors(torch.zeros(2))
    with pytest.raises(ValueError, match=r"needs maps of \[1, 4, 16\] ids, got \[1, 4, 15\]"):
        tokenizer.decode_maps([torch.zeros(1, n, dtype=torch.int64) for n in (1, 4, 15)], SHAPES)


def test_map_finer_than_the_latent_repeats_it():
    tokenizer = vq()
    fine, own = tokenizer.encode(pictures(), [(8, 8), (4, 4)])
    assert torch.equal(fine.view(2, 8, 8)[:, ::2, ::2].flatten(1), own)


def test_vq_without_shapes_reads_the_latent_grid():
    assert [item.shape for item in vq().encode(pictures(1, 12, 20))] == [(1, 15)]


def test_normalised_codes_have_length_one_and_raw_ones_do_not():
    assert torch.allclose(vq().codebook().norm(dim=-1), torch.ones(64), atol=1e-6)
    raw = vq(normalised=False)
    assert torch.equal(raw.codebook(), raw.table())


def test_straight_through_passes_the_gradient_of_the_output():
    tokenizer = vq(normalised=False)
    latent = torch.randn(1, 8, 2, 2, requires_grad=True)
    weights = torch.randn(1, 8, 2, 2)
    (tokenizer.quantise(latent).output * weights).sum().backward()
    assert torch.allclose(latent.grad, weights)


def test_generation_steps_add_up_to_decoding():
    tokenizer = residual()
    ids = tokenizer.encode(pictures(), SHAPES)
    total, feeds = torch.zeros(2, 8, 4, 4), []
    for step, shape in enumerate(SHAPES):
        before = total.clone()
        following = SHAPES[step + 1] if step < 2 else None
        kept = total
        total, fed = tokenizer.accumulate(
            total, unflatten(tokenizer.vectors(ids[step]), shape), step, 3, following
        )
        feeds.append(fed.flatten(2).transpose(1, 2))
        assert torch.equal(kept, before), "the running sum must not be changed in place"
    assert torch.equal(tokenizer.decode_vectors(total), tokenizer.decode(ids, SHAPES))
    assert torch.equal(torch.cat(feeds[:2], dim=1), tokenizer.transformer_inputs(ids, SHAPES))


def test_a_later_scale_changes_no_earlier_input():
    tokenizer = residual()
    ids = tokenizer.encode(pictures(), SHAPES)
    other = [*ids[:1], (ids[1] + 1) % 64, (ids[2] + 1) % 64]
    a, b = tokenizer.transformer_inputs(ids, SHAPES), tokenizer.transformer_inputs(other, SHAPES)
    assert torch.equal(a[:, :4], b[:, :4])
    assert not torch.equal(a[:, 4:], b[:, 4:])


def test_residual_scales_bring_the_sum_closer_to_the_latent():
    tokenizer = residual(phi=PhiConfig(blend=0.0))
    with torch.no_grad():
        tokenizer.table.weight.mul_(0.2)
        latent = area(torch.randn(2, 8, 2, 2, generator=torch.Generator().manual_seed(3)), (4, 4))
        totals = tokenizer.quantise(latent, SHAPES).totals
    errors = [float((total - latent).square().mean()) for total in totals]
    assert errors[-1] < errors[0] < float(latent.square().mean())


def test_last_map_of_a_residual_schedule_must_be_the_latent():
    with pytest.raises(ValueError, match=r"latent's size \(4, 4\), got \(3, 3\)"):
        residual().encode(pictures(), [1, 3])


def test_own_sizes_decode_every_scale():
    tokenizer = residual()
    ids = tokenizer.encode(pictures(), SHAPES)
    assert [image.shape[2] for image in tokenizer.decode_own_sizes(ids, SHAPES)] == [4, 8, 16]


PHI_TABLES = {
    (4, 2): [0, 3],
    (4, 3): [0, 2, 3],
    (4, 5): [0, 1, 2, 2, 3],
    (4, 6): [0, 0, 1, 2, 3, 3],
    (4, 8): [0, 0, 1, 1, 2, 2, 3, 3],
    (4, 9): [0, 0, 1, 1, 2, 2, 2, 3, 3],
    (4, 10): [0, 0, 1, 1, 1, 2, 2, 3, 3, 3],
    (4, 12): [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3],
    (4, 14): [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3],
    (2, 3): [0, 0, 1],
    (2, 5): [0, 0, 0, 1, 1],
    (2, 10): [0, 0, 0, 0, 0, 1, 1, 1, 1, 1],
    (3, 4): [0, 0, 1, 2],
    (3, 5): [0, 0, 1, 2, 2],
    (3, 10): [0, 0, 0, 0, 1, 1, 1, 2, 2, 2],
    (5, 4): [0, 1, 3, 4],
    (5, 6): [0, 0, 1, 2, 3, 4],
    (5, 10): [0, 0, 1, 1, 2, 2, 3, 3, 4, 4],
}


@pytest.mark.parametrize(("key", "want"), PHI_TABLES.items(), ids=str)
def test_phi_tables_of_the_published_code(key, want):
    count, steps = key
    assert [phi_index(step, steps, count) for step in range(steps)] == want


def test_single_scale_uses_the_last_phi():
    assert phi_index(0, 1, 4) == 3


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(2, 30), st.integers(1, 6), st.integers(0, 99))
def test_nearest_is_the_brute_force_answer(count, codes, dim, seed):
    generator = torch.Generator().manual_seed(seed)
    vectors, table = (
        torch.randn(count, dim, generator=generator),
        torch.randn(codes, dim, generator=generator),
    )
    distance = (vectors[:, None].double() - table.double()).square().sum(-1)
    chosen = distance.gather(1, nearest(vectors, table)[:, None])[:, 0]
    assert torch.allclose(chosen, distance.min(1).values, atol=1e-4)


def test_nearest_in_chunks_equals_at_once(monkeypatch):
    vectors, table = torch.randn(50, 4), torch.randn(16, 4)
    whole = nearest(vectors, table), most_aligned(vectors, table)
    monkeypatch.setitem(CELLS, "cpu", 48)
    assert torch.equal(whole[0], nearest(vectors, table))
    assert torch.equal(whole[1], most_aligned(vectors, table))


def test_entropy_prefers_sure_and_even_choices():
    table = torch.eye(4)
    even, collapsed, unsure = torch.eye(4), torch.eye(4)[:1].repeat(4, 1), torch.full((4, 4), 0.5)
    assert entropy_loss(even, table) < entropy_loss(collapsed, table) - 1
    assert entropy_loss(even, table) < entropy_loss(unsure, table) - 1


def test_usage_counts_codes_and_their_evenness():
    assert usage(torch.tensor([0, 1, 2, 3]), 8) == (0.5, pytest.approx(4.0))
    assert usage(torch.zeros(9, dtype=torch.int64), 8) == (0.125, pytest.approx(1.0))


def test_attention_options_remove_parameters():
    full, none = NetworkConfig(latent=8), NetworkConfig(latent=8, attention=False, middle_attention=False)
    for build in (Encoder, Decoder):
        assert any("attn" in name for name, _ in build(full).named_parameters())
        assert not any("attn" in name for name, _ in build(none).named_parameters())


def test_inference_and_training_paths_of_the_networks_agree():
    network = Encoder(NetworkConfig(latent=8, multipliers=(1, 2))).eval()
    with_gradient = network(pictures())
    with torch.no_grad():
        assert torch.equal(network(pictures()), with_gradient)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(1, 4), (3, 5)])
def test_doubling_without_gradient_is_the_library_s(layout, size):
    network = Decoder(NetworkConfig(latent=8, multipliers=(1, 2, 2))).double().eval()
    latent = torch.randn(2, 8, *size, dtype=torch.float64).to(memory_format=layout)
    with_gradient = network(latent)
    with torch.no_grad():
        torch.testing.assert_close(network(latent), with_gradient, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: NetworkConfig(width=48), "multiple of 32 .* got 48"),
        (lambda: NetworkConfig(multipliers=()), "at least one level"),
        (lambda: NetworkConfig(blocks=0), "set every multiplier to 1"),
        (lambda: NetworkConfig(groups=5), "divide 32, got 5"),
        (lambda: NetworkConfig(shortcut=True), "one level"),
        (lambda: NetworkConfig(patch=0), "patch at least 1"),
        (lambda: VQConfig(codes=1), "2 codes"),
        (lambda: VQConfig(decoder=NetworkConfig(multipliers=(1, 1))), "stride 8 and decoder stride 2 differ"),
        (lambda: VQConfig(codes=60, codebook=CodebookConfig(kind="bridge")), "square number .* got 60"),
        (lambda: CodebookConfig(kind="magic"), "unknown codebook 'magic'"),
        (lambda: ResidualVQConfig(kernel=2), "odd, got 2"),
        (lambda: ResidualVQConfig(sizes=(1, 0)), "got 0"),
        (lambda: PhiConfig(count=0), "set blend to 0"),
        (lambda: as_shapes([]), "at least one"),
        (lambda: check_maps([torch.zeros(1, 3)], [(2, 2)]), r"maps of \[4\] ids, got \[3\]"),
    ],
)
def test_impossible_settings_are_refused_with_a_reason(build, reason):
    with pytest.raises(ValueError, match=reason):
        build()


def test_the_default_size_can_be_expressed():
    network = NetworkConfig(latent=32, width=32, multipliers=(1, 1, 2, 2), blocks=1, groups=8)
    tokenizer = VQTokenizer(VQConfig(codes=1024, dim=32, encoder=network))
    parameters = sum(p.numel() for p in tokenizer.parameters())
    assert tokenizer.stride == 8
    assert 1.0e6 < parameters < 2.0e6
    assert tokenizer.encode(torch.zeros(1, 3, 64, 64))[0].shape == (1, 64)


def test_folded_pixels_keep_the_stride_and_see_every_pixel():
    network = NetworkConfig(latent=16, width=32, multipliers=(1, 1), blocks=0, patch=4, groups=8)
    tokenizer = VQTokenizer(VQConfig(encoder=network))
    images = torch.rand(1, 3, 16, 24, requires_grad=True)
    latent = tokenizer.latent(images)
    assert tokenizer.stride == 8
    assert latent.shape == (1, 16, 2, 3)
    assert tokenizer.decode_vectors(latent).shape == images.shape
    latent.sum().backward()
    assert (images.grad != 0).all()


def test_the_shortcut_starts_as_the_lowest_frequencies_of_a_patch():
    basis = lowest_frequencies(3, 8, 192)
    torch.testing.assert_close(basis @ basis.T, torch.eye(192), atol=1e-5, rtol=0)
    folded = {"width": 32, "multipliers": (1,), "blocks": 0, "patch": 8, "shortcut": True, "groups": 8}
    network = NetworkConfig(latent=192, **folded)
    tokenizer = VQTokenizer(VQConfig(dim=192, encoder=network, normalised=False)).eval()
    images = pictures(2)
    with torch.no_grad():  # as many frequencies as values: nothing is lost
        torch.testing.assert_close(
            tokenizer.decode_vectors(tokenizer.latent(images)), images, atol=1e-4, rtol=0
        )
        few = NetworkConfig(latent=3, **folded)
        flat = torch.tensor([0.2, -0.4, 0.9])[None, :, None, None].expand(1, 3, 16, 16)
        mean = VQTokenizer(VQConfig(dim=3, encoder=few, normalised=False)).eval()
        grey = mean.decode_vectors(mean.latent(flat)).mean(dim=1)  # brightness is kept first
    torch.testing.assert_close(grey, flat.mean(dim=1), atol=1e-4, rtol=0)


def test_k_means_finds_clusters_and_fills_every_row():
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(16, 4, generator=generator) * 10
    vectors = (centres[:, None] + 0.01 * torch.randn(16, 50, 4, generator=generator)).flatten(0, 1)
    rows = k_means(vectors, 40, generator, rounds=30)
    assert float(torch.cdist(centres, rows).amin(dim=1).max()) < 0.1
    assert len(nearest(vectors, rows).unique()) >= 35
    with pytest.raises(ValueError, match="need as many vectors"):
        k_means(vectors[:10], 40, generator)
