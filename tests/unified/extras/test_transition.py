"""What an image turns into under the actions said since it was shown."""

import pytest
import torch

from unified.decoding.session import Session
from unified.extras.references import ActionContrast, References
from unified.extras.transition import Transition, TransitionConfig
from unified.layout.layout import Layout, pack

WIDTH = 12


def fresh(channels):
    made = Transition(TransitionConfig(channels=channels), WIDTH).eval()
    made.initialise(0.02)
    return made


def changed(made, *given):
    """Images of one size or more after actions: (images, shape, actions, acted)."""
    return [one.images for one in made.references([References(*one) for one in given])]


def transition():
    torch.manual_seed(0)
    made = fresh(8)
    torch.nn.init.normal_(made.exit.weight, std=0.3)
    return made


def image(words, side, first):
    return words.read_segment(list(range(first, first + side * side)), [(side, side)])


def acting(words, *numbers):
    return [words.action_start + number for number in numbers]


def written(words, side, first):
    codes = list(range(first, first + side * side))
    header = words.open_write("next_scale", [(1, 1), (side, side)])
    return [*header, *words.visual_ids([0, *codes]), words.close]


def sample(words, *actions, side=3, first=5):
    """An image, an action, the next image, another action, ..."""
    ids = [words.begin, words.user, *image(words, side, first), words.end]
    for number, action in enumerate(actions):
        ids += [words.user, *(acting(words, *action) if action else []), words.end, words.assistant]
        ids += [*written(words, side, first + number + 1), *image(words, side, first + number + 1), words.end]
    return ids


ACTIONS = [tuple(range(start, start + 11)) for start in (0, 20, 40)]


@torch.no_grad()
def test_it_starts_as_the_identity_and_leaves_images_alone_after_which_nothing_was_done():
    made = transition()
    images, said = torch.randn(2, 9, WIDTH), torch.randn(2, WIDTH)
    (found,) = changed(made, (images, (3, 3), said, torch.tensor([True, False])))
    assert not torch.allclose(found[0], images[0], atol=0.1)
    assert torch.equal(found[1], images[1])
    made.initialise(0.02)
    (found,) = changed(made, (images, (3, 3), said, torch.tensor([True, True])))
    assert torch.equal(found, images)


@torch.no_grad()
def test_images_of_several_sizes_are_changed_as_each_alone_would_be():
    made = transition()
    shapes = [(3, 3), (2, 5), (4, 1)]
    images = [torch.randn(2, h * w, WIDTH) for h, w in shapes]
    said, acted = [torch.randn(2, WIDTH) for _ in shapes], [torch.tensor([True, True])] * 3
    given = list(zip(images, shapes, said, acted, strict=True))
    for one, found in zip(given, changed(made, *given), strict=True):
        torch.testing.assert_close(found, changed(made, one)[0])


@torch.no_grad()
def test_it_grows_and_does_what_it_did_before():
    before = transition()
    for block in before.blocks:
        torch.nn.init.normal_(block.steer.bias, std=0.3)
    images, said = torch.randn(2, 3, 3, WIDTH), torch.randn(2, WIDTH)
    sizes = torch.tensor([[3, 3], [2, 3]])
    grown = fresh(20)
    grown.grow(before)
    assert not torch.allclose(grown(images, sizes, said), before(images, sizes, said), atol=1e-4)
    for name, weight in grown.named_parameters():
        if not name.startswith("exit") and "steer" not in name:
            assert weight[8:].any()
            weight[8:] = 0  # the new channels, before anything is heard of them but in the norms
    torch.testing.assert_close(grown(images, sizes, said), before(images, sizes, said))


def test_it_loses_the_channels_that_say_least():
    before, grown = transition(), fresh(20)
    grown.grow(before)  # nobody reads the new channels
    shrunk = fresh(8)
    shrunk.shrink(grown)
    for (name, weight), wanted in zip(shrunk.named_parameters(), before.parameters(), strict=True):
        if name.startswith("exit"):
            wanted = (8 / 20) ** 0.5 * wanted
        if "steer" not in name:  # its scales are lower, too
            torch.testing.assert_close(weight, wanted)


def test_what_is_far_away_does_not_count():
    made = transition()
    images = torch.randn(1, 1, 20, WIDTH, requires_grad=True)
    made(images, torch.tensor([[1, 20]]), torch.randn(1, WIDTH))[0, 0, 0].sum().backward()
    reached = images.grad[0, 0].abs().sum(dim=-1) > 0
    assert reached.tolist() == [True] * 7 + [False] * 13  # one code further with each of six blocks


def test_the_actions_since_the_latest_image_are_meant(model):
    words = model.vocabulary
    row = sample(words, ACTIONS[0], (), ACTIONS[1] + ACTIONS[2])
    (group,) = Layout.of([row + sample(words, ())], words).writes
    found = [[row[place] - words.action_start for place in places if place >= 0] for places in group.actions]
    assert found == [list(ACTIONS[0]), [], [*ACTIONS[1], *ACTIONS[2]], []]


@torch.no_grad()
def test_packed_samples_say_what_they_say_alone(model):
    words = model.vocabulary
    samples = [sample(words, ACTIONS[0]), sample(words, ()), sample(words, ACTIONS[1], ACTIONS[2])]
    packed = pack(samples, sum(map(len, samples)), words)
    whole = model(packed).log_probs.sum()
    alone = sum(model(torch.tensor([ids])).log_probs.sum() for ids in samples)
    torch.testing.assert_close(whole, alone, atol=1e-3, rtol=1e-5)


@torch.no_grad()
def test_a_drawing_depends_on_the_action_through_it_and_a_session_agrees(make_model):
    model = make_model()
    words = model.vocabulary
    starts = [sample(words), sample(words, first=20)]
    asked = [[words.user, *acting(words, *action), words.end, words.assistant] for action in ACTIONS[:2]]
    session = Session(model, rows=2, seed=3)
    session.feed([start + ask for start, ask in zip(starts, asked, strict=True)])
    for action in ACTIONS[1:]:
        drawing = session.draw([1, 3])
        whole = model(torch.tensor(session.streams)).log_probs
        (group,) = Layout.of(session.streams, words).writes
        slots = group.slots().view(2, -1, drawing.plan.length)[:, -1]
        torch.testing.assert_close(whole.gather(1, slots), drawing.log_probs, atol=1e-3, rtol=0)
        session.feed([words.end, words.user, *acting(words, *action), words.end, words.assistant])
    ids = torch.tensor(session.streams[0])[None]
    before = model(ids[:, : -len(ACTIONS[0]) - 4]).log_probs
    model.extras["transition"].exit.weight.zero_()
    assert not torch.allclose(model(ids[:, : before.shape[1]]).log_probs, before, atol=1e-3)


@torch.no_grad()
def test_what_is_gone_on_from_is_set_off_against_another_action_and_what_is_drawn_is_not(model):
    words = model.vocabulary
    one, other = (acting(words, *action) for action in ACTIONS[:2])

    def two_frames(contrast, carry=True):
        session = Session(model)
        session.feed([words.begin, words.user, *image(words, 3, 5), *one, words.end, words.assistant])
        drawings = [session.draw([(3, 3)], contrast=contrast, carry=carry)]
        session.feed([words.end, words.user, *one, words.end, words.assistant])
        return [*drawings, session.draw([(3, 3)])]

    plain, same, apart = (
        two_frames(c) for c in (None, ActionContrast([one], 9.0), ActionContrast([other], 9.0))
    )
    for first, _ in (same, apart):
        assert torch.equal(first.codes, plain[0].codes)
        assert torch.equal(first.log_probs, plain[0].log_probs)
    torch.testing.assert_close(same[1].log_probs, plain[1].log_probs, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(apart[1].log_probs, plain[1].log_probs, atol=1e-3)
    with pytest.raises(ValueError, match="as many actions, got 2"):
        two_frames(ActionContrast([one, other], 9.0))
    with pytest.raises(ValueError, match="carry=True"):
        two_frames(ActionContrast([other], 9.0), carry=False)


@torch.no_grad()
def test_an_action_that_the_model_chose_counts_too(model):
    words = model.vocabulary
    session = Session(model, seed=1)
    session.feed([*sample(words), words.assistant])
    session.action()
    session.feed([words.end, words.assistant])
    drawing = session.draw([1, 3])
    (group,) = Layout.of(session.streams, words).writes
    assert (group.actions >= 0).sum() == words.action_slots
    whole = model(torch.tensor(session.streams)).log_probs
    torch.testing.assert_close(whole[0, group.slots()[0]], drawing.log_probs[0], atol=1e-3, rtol=0)


def test_it_learns_with_the_rest(make_model):
    model = make_model().train()
    ids = torch.tensor([sample(model.vocabulary, ACTIONS[0])])
    model(ids, labels=Layout.of(ids, model.vocabulary).labels(ids)).loss.backward()
    weights = dict(model.extras["transition"].named_parameters())
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights.values())
    model.zero_grad()
    ids = torch.tensor([sample(model.vocabulary, ())])  # its part is taken all the same, with nothing to do
    model(ids, labels=Layout.of(ids, model.vocabulary).labels(ids)).loss.backward()
    assert all(weight.grad is not None and not weight.grad.any() for weight in weights.values())


def test_without_references_there_is_nothing_to_change(make_model):
    with pytest.raises(ValueError, match="transition is of no use alone: add reference or copy_gate"):
        make_model(extras={"transition": {}})


# Words --------------------------------------------------------------------------------------------


def sketched(words, *turns, side=3, first=5):
    """An image, then in one assistant turn words and the next image, words and the next, ..."""
    ids = [words.begin, words.user, *image(words, side, first), 90, 91, words.end, words.assistant]
    for number, said in enumerate(turns):
        ids += [*said, *written(words, side, first + number + 1), *image(words, side, first + number + 1)]
    return [*ids, words.end]


def test_the_words_of_the_turn_since_the_latest_image_are_meant(model):
    words = model.vocabulary
    row = sketched(words, (7, 8), (), (9, words.part, 10))
    (group,) = Layout.of([row + sketched(words, (11,))], words).writes
    both = row + sketched(words, (11,))
    found = [[both[place] for place in places if place >= 0] for places in group.words]
    assert found == [[7, 8], [], [9, 10], [11]]


@torch.no_grad()
def test_words_steer_it_and_an_image_follows_without_any():
    torch.manual_seed(0)
    made = Transition(TransitionConfig(channels=8, words=True), WIDTH).eval()
    made.initialise(0.02)
    torch.nn.init.normal_(made.exit.weight, std=0.3)
    for block in made.blocks:
        torch.nn.init.normal_(block.steer.weight, std=0.3)
    images, none = torch.randn(3, 9, WIDTH), torch.zeros(3, WIDTH)
    said, no, shown = (
        torch.randn(3, WIDTH),
        torch.zeros(3, dtype=torch.bool),
        torch.tensor([True, True, False]),
    )
    silent, told = (
        made.references([References(images, (3, 3), none, no, words, shown)])[0].images
        for words in (none, said)
    )
    assert not torch.allclose(silent[:2], images[:2], atol=0.1)
    assert not torch.allclose(told[:2], silent[:2], atol=0.01)
    assert torch.equal(silent[2], images[2])  # there is no image
    acted = made.references([References(images, (3, 3), said, no, none, shown)])[0].images
    torch.testing.assert_close(acted, told)


@torch.no_grad()
def test_a_session_says_of_words_what_one_pass_says(make_model):
    """The model's own words and those it is fed both steer its sketches."""
    model = make_model(
        extras={"reference": {}, "copy_gate": {}, "transition": {"channels": 8, "words": True}}
    )
    torch.nn.init.normal_(model.extras["transition"].exit.weight, std=0.3)
    words = model.vocabulary
    session = Session(model, seed=1)
    session.feed([words.begin, words.user, *image(words, 3, 5), 90, words.end, words.assistant, 7, 8])
    first = session.draw([(1, 1), (3, 3)])
    for _ in session.text(max_tokens=3, draw=False, end=False):
        pass
    second = session.draw([(1, 1), (3, 3)])
    whole = model(torch.tensor(session.streams)).log_probs[0]
    (group,) = Layout.of(session.streams, words).writes
    for slots, drawing in zip(group.slots(), (first, second), strict=True):
        torch.testing.assert_close(whole[slots], drawing.log_probs[0], atol=1e-3, rtol=0)
    other = [7 if token == 8 else token for token in session.streams[0]]
    changed = model(torch.tensor([other])).log_probs[0]
    assert not torch.allclose(changed[group.slots()[0]], whole[group.slots()[0]], atol=1e-3)


def test_bad_options_are_refused(make_model):
    with pytest.raises(ValueError, match="words must be true or false"):
        make_model(extras={"reference": {}, "transition": {"words": 1}})
