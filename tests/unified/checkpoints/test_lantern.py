"""LANTERN's released verification, trees and drafter."""

import sys
from pathlib import Path

import pytest
import torch

from unified.checkpoints.lantern.drafting import Drafting, draft_dynamic, draft_static, without_replacement
from unified.checkpoints.lantern.loss import drafter_loss
from unified.checkpoints.lantern.network import Drafter, DrafterConfig, config_from
from unified.checkpoints.lantern.verification import Draft, Processor, ReleasedRule, walk
from unified.decoding.strategies.draft_tree import DraftTree
from unified.decoding.strategies.relaxation import neighbour_table

sys.path.insert(0, str(Path(__file__).parents[2]))
from golden_folders import compared, copied, needs, refused, without

CHANGED = {
    "neighbours": 1,
    "single.static.mul_2_k8.accepted": 1,
    "single.dynamic.add_0.1_k8.distribution": 1e-3,
    "tree.mc_sim_7b_63.static_mul.random_used": 1,
    "tree.mc_sim_7b_63.greedy_add.next_logits": 1e-2,
    "lumina.static_add.distribution": 1e-3,
    "drafter.c2i.train.cfg_loss.grad.fc.weight": 1e-3,
    "drafter.t2i.train.plain.token_loss": 1e-2,
    "drafter.c2i.dynamic_processed.next.tree_mask": 1,
    "drafter.t2i.static_greedy.tokens": 1,
}


@needs("lantern")
def test_every_tensor_agrees_and_changed_ones_do_not(tmp_path, capsys):
    def another_branch(stored):
        stored["tree.tiny.b_indices"][3, 1, 0] += 1

    skipped = compared("lantern", tmp_path, capsys, CHANGED, another_branch)
    assert all(line.endswith("an input") for line in skipped)


@needs("lantern")
@pytest.mark.parametrize(
    ("key", "reason"),
    [("trees", "lacks trees"), ("processor", "lacks processor"), ("drafters", "lacks drafters")],
)
def test_a_missing_option_is_one_line(key, reason, tmp_path, capsys):
    folder = copied("lantern", tmp_path, config=lambda options: without(options, key))
    assert reason in refused(folder, capsys)


# Of any size ------------------------------------------------------------------------------------------------


def rule(size, **options):
    table = neighbour_table(torch.randn(size, 2, generator=torch.Generator().manual_seed(1)))
    return ReleasedRule(
        **{"neighbours": table, "nearest": 3, "delta": 0.0, "relaxed": False, "kind": "static", **options}
    )


@pytest.mark.parametrize("relaxed", [False, True])
def test_a_chain_without_relaxation_follows_the_target(relaxed):
    """The static rule is speculative sampling; with a delta of 0 and no code of probability 0, too."""
    size, count = 5, 4000
    rng = torch.Generator().manual_seed(0)
    p, q = (torch.randn(size, generator=rng).softmax(dim=-1) for _ in range(2))
    tree, told = DraftTree.of([[0]], 1), rule(size, relaxed=relaxed)
    tokens = torch.multinomial(q, count, replacement=True, generator=rng)
    law = torch.zeros(size)
    for token, uniform in zip(tokens, torch.rand(count, 1, generator=rng), strict=True):
        draft = Draft(tree, torch.tensor([[0, int(token)]]), q[token].view(1, 1), q[None])
        found = walk(told, lambda logits: logits, torch.stack([p, p]), draft, uniform)
        assert found.used == 1
        law += torch.nn.functional.one_hot(token, size) if found.length else found.distribution
    torch.testing.assert_close(law / count, p, atol=0.02, rtol=0)


def test_the_processor_keeps_the_nucleus_and_the_largest():
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    assert (Processor(top_k=2)(logits) > 0).tolist() == [False, False, True, True]
    assert (Processor(top_p=0.8)(logits) > 0).tolist() == [False, True, True, True]
    torch.testing.assert_close(Processor(temperature=0.5)(logits), torch.tensor([1.0, 4, 9, 16]) / 30)
    with pytest.raises(ValueError, match="repetition_penalty"):
        Processor.of({"repetition_penalty": 1.2})


def test_chances_without_replacement():
    found = without_replacement(torch.tensor([[0.5, 0.3, 0.2, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.6, 1.0, 0.0]]))


@pytest.fixture(scope="module")
def drafter():
    torch.manual_seed(0)
    sizes = {"codes": 21, "width": 24, "inner": 20, "heads": 3, "kv_heads": 1, "side": 4, "prefix": 2}
    model = Drafter(DrafterConfig(**sizes)).eval()
    return model, torch.randn(21, 24), torch.randint(21, (1, 7)).expand(2, -1), torch.randn(2, 7, 24)


@torch.no_grad()
def test_cached_equals_uncached(drafter):
    model, _, ids, hidden = drafter
    whole, cache = model(ids, hidden)
    first, before = model(ids[:, :3], hidden[:, :3])
    rest, after = model(ids[:, 3:], hidden[:, 3:], cache=before)
    torch.testing.assert_close(torch.cat([first, rest], dim=1), whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(after[0], cache[0], atol=1e-6, rtol=0)


@torch.no_grad()
def test_each_path_of_a_drafted_tree_is_what_it_is_alone(drafter):
    model, head, ids, hidden = drafter
    drafting = Drafting.begin(model, head, 1.5, ids, hidden)
    tree = DraftTree.of([[0], [1], [0, 0], [0, 1], [1, 0], [0, 1, 0]], ranks=4)
    made = draft_static(drafting, tree)
    assert made.tokens.shape == (len(tree.inner), 4)
    path = [(), (0,), (0, 1)]
    tokens = [int(made.tokens[tree.inner.index(tree.number(node[:-1])), node[-1]]) for node in path[1:]]
    output, cache = drafting.last, drafting.cache
    for node, token in zip(path, [*tokens, -1], strict=True):
        want = drafting.logits(output)
        torch.testing.assert_close(made.logits[tree.inner.index(tree.number(node))], want, atol=1e-4, rtol=0)
        if token >= 0:
            step, cache = model(torch.full((2, 1), token), output[:, None], cache=cache)
            output = step[:, 0]


@torch.no_grad()
def test_a_dynamic_tree_holds_its_likeliest_nodes(drafter):
    model, head, ids, hidden = drafter
    drafting = Drafting.begin(model, head, 1.5, ids, hidden)
    made = draft_dynamic(drafting, 3, depth=2, total=6, ranks=3)
    assert made.tokens.shape == (6,)
    assert made.tokens[0] == 3
    assert torch.equal(made.seen.sum(dim=1) - 1, made.depths)
    best = drafting.logits(drafting.last).argmax()
    assert best in made.tokens[made.depths == 1]
    again = draft_dynamic(drafting, 3, depth=2, total=6, ranks=3)
    assert torch.equal(made.tokens, again.tokens)


def test_the_loss_is_that_of_the_formula(drafter):
    _, head, _, _ = drafter
    rng = torch.Generator().manual_seed(3)
    output, target = (torch.randn(2, 5, 24, generator=rng) for _ in range(2))
    mask = torch.tensor([[1.0, 1, 0, 1, 0], [1, 0, 0, 0, 0]])
    found = drafter_loss(output, target, head, mask)
    features = tokens = 0.0
    for b, t in mask.nonzero().tolist():
        gap = (output[b, t] - target[b, t]).abs()
        features += float(torch.where(gap < 1, 0.5 * gap**2, gap - 0.5).mean())
        wanted = (head @ target[b, t]).softmax(0)
        tokens -= float((wanted * (head @ output[b, t]).log_softmax(0)).sum())
    assert abs(float(found.features) - features / 4) < 1e-4
    assert abs(float(found.tokens) - tokens / 4) < 1e-3
    assert abs(float(found.total) - (features + 0.1 * tokens) / 4) < 1e-3


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"input_type": "video"}, "input_type 'video'"), ({"hidden_size": None}, "lacks hidden_size")],
)
def test_a_config_that_does_not_fit_is_refused(options, reason):
    told = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    with pytest.raises(ValueError, match=reason):
        config_from({**told, "input_type": "c2i", **options}, {})
