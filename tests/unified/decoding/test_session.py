"""The session: batches, guidance, dropping the WRITE part, hooks, interruption."""

import pytest
import torch

from unified.cache.policy import DropWrite, Full, Window
from unified.decoding.editing import keep
from unified.decoding.guidance import Constant, Ramp, contrasted
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.decoding.text import allowed_ids
from unified.layout.layout import Layout

PROMPTS = ("draw a cat", "x", "a much longer request than the others")


def prompts(stream, texts=PROMPTS):
    return [stream.encode([{"role": "user", "content": text}], prompt=True) for text in texts]


def talk(session, guidance=None):
    """Text, an image, more text, an action."""
    list(session.text(max_tokens=4, draw=False))
    session.draw([1, 2, (2, 3)], guidance=guidance)
    list(session.text(max_tokens=4, draw=False))
    session.action()
    return session.streams


@pytest.mark.parametrize("guidance", [None, Constant(3.0), Ramp(2.0)])
def test_a_row_says_the_same_alone_and_in_a_batch(model, stream, guidance):
    together = Session(model, rows=3, seed=11)
    together.feed(prompts(stream))
    batch = talk(together, guidance)
    for number, prompt in enumerate(prompts(stream)):
        alone = Session(model, seed=11 + number)
        alone.feed(prompt)
        assert talk(alone, guidance)[0] == batch[number]


def test_the_same_seed_says_the_same_and_another_does_not(model, stream):
    def run(seed):
        session = Session(model, seed=seed)
        session.feed(prompts(stream)[0])
        return talk(session)

    assert run(5) == run(5)
    assert run(5) != run(6)


@pytest.mark.parametrize("order", ["next_scale", "residual"])
@pytest.mark.parametrize("guidance", [None, Constant(2.0)], ids=["plain", "guided"])
def test_dropping_the_write_part_changes_no_later_logit(model, stream, order, guidance):
    states = []
    for policy in (Full(), DropWrite()):
        session = Session(model, rows=2, seed=3, policy=policy)
        session.feed(prompts(stream)[:2])
        session.draw([1, 2, 3], order=order, guidance=guidance)
        session.feed(stream.text.encode("and then"))
        states.append((session.last, session.context.cache.length))
    torch.testing.assert_close(states[0][0], states[1][0], atol=1e-5, rtol=0)
    assert states[0][1] >= states[1][1] + 14


def test_what_a_session_says_is_what_one_pass_gives(model, stream):
    session = Session(model, seed=2)
    session.feed(prompts(stream)[0])
    ids = torch.tensor(talk(session))
    output = model(ids)
    session.feed([stream.vocabulary.end])
    full = model(torch.tensor(session.streams)).hidden_states[0, -1]
    torch.testing.assert_close(session.last[0], full, atol=1e-4, rtol=0)
    assert torch.isfinite(output.log_probs).all()
    assert stream.decode(ids[0].tolist())[1]["role"] == "assistant"


def test_feeding_in_pieces_is_feeding_at_once(model, stream):
    ids = stream.encode(
        [{"role": "user", "content": [{"type": "image", "codes": [1] * 6, "shapes": [[2, 3]]}]}], prompt=True
    )
    whole, pieces = Session(model), Session(model)
    whole.feed(ids)
    pieces.feed(ids[:2])
    pieces.feed(ids[2:-1])
    pieces.feed(ids[-1:])
    torch.testing.assert_close(whole.last, pieces.last, atol=1e-5, rtol=0)


def test_a_context_remembers_the_states_of_every_head_and_branch(make_model, stream):
    """After the last ids of rows of different lengths, in both branches: as one pass over each gives them."""
    model = make_model(read_outs=2)
    session = Session(model, rows=3)
    assert session.last is None
    assert session.context.latest(session.context.rows()) is None
    session.feed(prompts(stream))
    for ids in (stream.text.encode("now"), stream.text.encode("then")):
        session.feed([ids, [], ids[:1]])
    session.read_null()
    found = session.context.latest(session.context.rows(0, 2))
    assert torch.equal(found[0][:3], session.last)
    streams = session.streams
    for number, ids in enumerate([*streams, *map(model.null_stream, streams)]):
        rows = torch.tensor([ids])
        layout = Layout.of(rows, model.vocabulary)
        with torch.no_grad():
            whole = model.decode(model.embed(rows, layout), layout)
        for head in range(2):
            torch.testing.assert_close(found[head][number], whole[head][0, -1], atol=1e-4, rtol=0)


def test_guidance_without_effect_computes_no_null_branch(model, stream):
    """Scale 1 is off: the same codes, and the model sees one row at a time."""
    seen = []
    hook = model.backbone.layers[0].register_forward_hook(lambda m, a, out: seen.append(len(out)))
    drawn = []
    for guidance in (None, Constant(1.0), Constant(4.0)):
        session = Session(model, seed=1)
        session.feed(prompts(stream)[0])
        seen.clear()
        drawn.append((session.draw([1, 2, 4], guidance=guidance).codes, max(seen)))
    hook.remove()
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert [rows for _, rows in drawn] == [1, 1, 2]
    assert not torch.equal(drawn[0][0], drawn[2][0])


def test_the_null_stream_keeps_turns_and_images_and_no_word_of_user_or_assistant(model, stream):
    picture = {"type": "image", "codes": [1], "shapes": [(1, 1)]}
    said = [{"type": "text", "text": "said"}]

    def ids(words):
        return stream.encode(
            [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": [picture, *words]},
                {"role": "assistant", "content": [*words, picture, *words]},
            ]
        )

    assert model.null_stream(ids(said)) == ids([])
    assert model.null_stream(ids([])) == ids([])


def test_flags_of_rows_must_be_one_for_each(model, stream):
    session = Session(model, rows=2)
    session.feed(prompts(stream)[0])
    for flags in ({"draw": [True]}, {"end": [True] * 3}):
        with pytest.raises(ValueError, match="one flag for each of 2 rows"):
            next(session.text(**flags))


def seeing(words, stream, first):
    """A prompt with an image of code `first` and the codes after it, and the same without."""
    said = [*stream.text.encode("what is this"), words.end, words.assistant]
    image = words.read_segment(list(range(first, first + 4)), [(2, 2)])
    return [words.begin, words.user, *image, *said], [words.begin, words.user, *said]


@pytest.mark.parametrize("name", ["visual_contrast", "contrast"])  # today's name and the former one
def test_words_are_contrasted_with_those_of_a_session_without_the_images(model, stream, name):
    prompts = [seeing(model.vocabulary, stream, first) for first in (3, 40)]
    session = Session(model, rows=2)
    session.feed([prompt for prompt, _ in prompts])
    sampler = Sampler(temperature=0)
    said = list(session.text(sampler=sampler, max_tokens=6, draw=False, end=False, **{name: 2.0}))
    for row, (prompt, blind) in enumerate(prompts):
        logits = []
        for ids in (prompt, blind):
            alone = Session(model)
            alone.feed(ids)
            logits.append([])
            for step in said:
                allowed = allowed_ids(alone, False, False)
                logits[-1].append(model.text_logits(alone.last).masked_fill(~allowed, float("-inf")))
                alone.feed([step[row]])
        for step, seen, unseen in zip(said, *logits, strict=True):
            assert contrasted(seen, unseen, 2.0).argmax().item() == step[row]
    plain = Session(model, rows=2)
    plain.feed([prompt for prompt, _ in prompts])
    assert said != list(plain.text(sampler=sampler, max_tokens=6, draw=False, end=False))


def test_without_images_there_is_nothing_to_contrast_with(model, stream):
    found = []
    for contrast in (0.0, 3.0):
        session = Session(model, rows=3)
        session.feed(prompts(stream))
        words = session.text(sampler=Sampler(temperature=0), max_tokens=8, draw=False, contrast=contrast)
        found.append(list(words))
    assert found[0] == found[1]


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_a_wrong_contrast_is_refused_and_nothing_is_said(model, stream, wrong):
    session = Session(model, rows=3)
    session.feed(prompts(stream))
    before = session.streams
    with pytest.raises(ValueError, match="contrast"):
        next(session.text(visual_contrast=wrong))
    with pytest.raises(ValueError, match="contrast"):
        next(session.text(contrast=wrong))  # the former name
    assert session.streams == before


def test_guided_logits_are_the_formula_of_two_sessions(model, stream):
    prompt = prompts(stream)[0]
    runs = []
    for ids in (prompt, model.null_stream(prompt)):
        session = Session(model)
        session.feed(ids)
        runs.append(next(session.image([1, (2, 3)], sampler=Sampler(temperature=0))).logits)
    session = Session(model)
    session.feed(prompt)
    guided = next(iter(session.image([1, (2, 3)], guidance=Constant(2.5)))).logits
    torch.testing.assert_close(guided, runs[1] + 2.5 * (runs[0] - runs[1]), atol=1e-4, rtol=0)


def test_greedy_text_stops_at_the_end_and_streams(model, stream):
    session = Session(model, rows=2, seed=0)
    session.feed(prompts(stream)[:2])
    said = list(session.text(max_tokens=6, sampler=Sampler(temperature=0), draw=False))
    assert all(len(row) == 2 for row in said)
    assert len(said) <= 6
    for number, reason in enumerate(session.stopped()):
        tokens = [row[number] for row in said if row[number] is not None]
        assert (reason == "end") == (tokens[-1] == stream.vocabulary.end)


def test_a_row_that_asks_to_draw_stops_while_others_go_on(model, stream):
    session = Session(model, rows=3, seed=0)
    session.feed(prompts(stream))
    model.text_head.weight.data, kept = model.text_head.weight.data.clone(), model.text_head.weight.data
    words = stream.vocabulary
    model.text_head.weight.data[words.write] = 4 * session.last[1] / session.last[1].norm()
    list(session.text(max_tokens=3, sampler=Sampler(temperature=0)))
    model.text_head.weight.data = kept
    assert session.stopped()[1] == "write"
    wants = [reason == "write" for reason in session.stopped()]
    lengths = [len(row) for row in session.streams]
    session.draw([1, 2], rows=wants)
    grown = [len(new) > old for new, old in zip(session.streams, lengths, strict=True)]
    assert grown == wants
    session.feed([words.end])
    for row in session.streams:
        stream.decode(row)


def test_an_image_broken_off_leaves_no_trace(model, stream):
    plain, broken = Session(model, seed=4), Session(model, seed=4)
    for session in (plain, broken):
        session.feed(prompts(stream)[0])
    drawing = broken.image([1, 2, 4])
    next(drawing)
    drawing.close()
    assert broken.streams == plain.streams
    assert talk(broken) == talk(plain)


@pytest.mark.parametrize("layer", [0, 1])
def test_an_interruption_in_the_middle_of_a_pass_loses_nothing(model, stream, layer):
    """As Ctrl-C would: while text is read, while an image is written; then the conversation goes on."""

    def interrupt(*_):
        raise KeyboardInterrupt

    plain, broken = Session(model, seed=4), Session(model, seed=4)
    plain.feed(prompts(stream)[0])
    for call in (lambda: broken.feed(prompts(stream)[0]), lambda: broken.draw([1, 2, 4])):
        handle = model.backbone.layers[layer].mlp.register_forward_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            call()
        handle.remove()
    assert broken.streams == plain.streams
    assert talk(broken) == talk(plain)


def test_a_hook_keeps_chosen_places(model, stream):
    session = Session(model, seed=1)
    session.feed(prompts(stream)[0])
    first = session.draw([1, 2, 4])
    mask = torch.zeros(8, 8)
    mask[:, :4] = 1
    again = session.draw([1, 2, 4], hook=keep(first.plan, first.codes[0], mask))
    left = again.maps()[-1].view(4, 4)[:, :2] == first.maps()[-1].view(4, 4)[:, :2]
    assert left.all()
    assert torch.equal(again.maps()[0], first.maps()[0]), "a map of at most three cells is kept whole"
    assert not torch.equal(again.codes, first.codes)
    one_pass = model(torch.tensor(session.streams)).step_sums[0].sum()
    assert one_pass < again.log_probs.sum(), "kept codes are not counted as drawn"
    with pytest.raises(ValueError, match="has 21 slots, the image to keep 3 codes"):
        keep(first.plan, torch.zeros(3), mask)


def test_a_window_bounds_the_cache(model, stream):
    session = Session(model, policy=Window(60, keep=2))
    session.feed(prompts(stream)[0])
    lengths = []
    for _ in range(6):
        session.draw([1, 3])
        lengths.append(session.context.cache.length)
        session.feed([stream.vocabulary.end, stream.vocabulary.assistant])
    assert max(lengths) <= 60
    assert lengths[-1] == session.context.index.sample.shape[1] - 2 or lengths[-1] <= 60
    kinds = session.context.index.segment[0]
    assert kinds[0] == 0
    layout = Layout.of([session.streams[0]], stream.vocabulary)
    assert int(layout.index.segment.max()) > 6


def test_bad_calls_are_refused_and_change_nothing(model, stream):
    session = Session(model)
    with pytest.raises(ValueError, match="feed a prompt first"):
        list(session.text())
    session.feed(prompts(stream)[0])
    before = session.streams
    with pytest.raises(ValueError, match="unknown grid"):
        session.feed([stream.vocabulary.read])
    with pytest.raises(ValueError, match="unknown order"):
        session.image([2], order="spiral")
    with pytest.raises(ValueError, match=r"outside 1\.\.64"):
        session.image([65])
    with pytest.raises(ValueError, match="1 rows need 1 lists"):
        session.feed([[1], [2]])
    with pytest.raises(ValueError, match="at least one row"):
        Session(model, rows=0)
    with pytest.raises(ValueError, match="2 rows need 2 seeds"):
        Session(model, rows=2, seed=[1])
    assert session.streams == before
    session.draw([1, 2])


def test_gradients_are_not_kept(model, stream):
    session = Session(model)
    session.feed(prompts(stream)[0])
    session.draw([1, 2])
    assert not session.last.requires_grad


class Passes:
    """Counts what goes through the backbone."""

    def __init__(self, model, monkeypatch):
        self.sizes = []
        hidden = model.hidden

        def counted(embeds, *rest, **named):
            self.sizes.append(embeds.shape[1])
            return hidden(embeds, *rest, **named)

        monkeypatch.setattr(model, "hidden", counted)


def test_what_comes_before_an_image_is_read_with_its_first_step(model, stream, monkeypatch):
    session = Session(model, seed=0)
    session.feed(stream.encode([{"role": "user", "content": "draw"}], prompt=True))
    session.draw([1, 2])
    session.feed([model.vocabulary.end])
    passes = Passes(model, monkeypatch)
    session.feed(stream.encode([{"role": "user", "content": "and"}], prompt=True)[1:], defer=True)
    session.draw([1, 2])
    assert len(passes.sizes) == 2
    assert passes.sizes[1] == 4


def test_breaking_off_before_the_first_step_loses_nothing(model, stream, monkeypatch):
    prompt = stream.encode([{"role": "user", "content": "draw"}], prompt=True)
    plain = Session(model, seed=0)
    plain.feed(prompt)
    plain.draw([1, 2])
    expected = list(plain.text(max_tokens=4))

    session = Session(model, seed=0)
    session.feed(prompt)
    session.draw([1, 2])
    with monkeypatch.context() as patch:
        patch.setattr(model, "hidden", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            session.draw([1, 2])
    steps = session.image([1, 2])
    next(steps)
    steps.close()
    assert list(session.text(max_tokens=4)) == expected
