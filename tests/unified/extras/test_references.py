"""What an image is fed of the image before it."""

import torch

from unified.decoding.session import Session
from unified.layout.layout import Layout


def stream(words, *images):
    """A user's image, then drawn ones, each (size, first code)."""
    (side, code), *drawn = images
    ids = [words.begin, words.user, *words.read_segment(codes(side, code), [(side, side)]), words.end]
    ids.append(words.assistant)
    for side, code in drawn:
        write = [*words.open_write("next_scale", [(1, 1), (side, side)])]
        written = words.visual_ids([0, *codes(side, code)])
        ids += [*write, *written, words.close, *words.read_segment(codes(side, code), [(side, side)])]
    return [*ids, words.end]


def codes(side, first):
    return list(range(first, first + side * side))


def test_the_latest_image_of_the_same_size_is_meant(model):
    words = model.vocabulary
    ids = stream(words, (2, 5), (2, 20), (3, 40), (3, 50))
    row = ids + ids  # the second sample sees nothing of the first
    groups = Layout.of([row], words).writes
    found = {}
    for group in groups:
        for start, before in zip(group.starts.tolist(), group.reference.tolist(), strict=True):
            found[start] = None if before < 0 else row[before] - words.visual_start
    assert [found[start] for start in sorted(found)] == [5, None, 40, 5, None, 40]


@torch.no_grad()
def test_a_drawing_depends_on_the_image_before_and_a_session_agrees(make_model):
    model = make_model()
    words = model.vocabulary
    ids = torch.tensor([stream(words, (2, 5), (2, 20))])
    with_image = model(ids).log_probs
    model.extras["reference"].projection.weight.zero_()
    assert not torch.allclose(model(ids).log_probs, with_image)

    model = make_model()
    for first in (5, 30):
        session = Session(model, seed=3)
        session.feed(stream(words, (2, first))[:-1])
        drawing = session.draw([1, 2])
        whole = model(torch.tensor(session.streams)).log_probs
        group = Layout.of(session.streams, words).writes[0]
        torch.testing.assert_close(whole[0, group.slots()[0]], drawing.log_probs[0], atol=1e-4, rtol=0)
