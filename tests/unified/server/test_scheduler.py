"""Jobs share passes and nobody's answer depends on who else is answered."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unified.apps.answering import Turn, images_of
from unified.apps.intent import ASKED_FOR, information
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.server.job import Ended, Extras, Failed
from unified.server.limits import Limits
from unified.server.running import HELD
from unified.server.scheduler import Busy, Scheduler
from unified.server.speech import Speech

sys.path.insert(0, str(Path(__file__).parents[2]))
from serving import SETTINGS, Heard, run


@pytest.fixture
def scheduler(parts):
    return Scheduler(*parts, Limits(rows=4, queue=8))


def alone(parts, one):
    """The answer by the loop that every verb runs, without a scheduler."""
    model, processor = parts
    session = Session(model, seed=[one.job.seed])
    session.feed(one.job.prompt.ids(processor))
    turn = Turn(session, processor, one.job.shapes, one.job.settings)
    for _ in turn.events():
        pass
    return session.rows[0].stream[turn.starts[0] : turn.stops[0]], turn.content(0)


def spoken(processor, ids):
    """The text of ids, whose bytes are random, piece by piece as it is streamed."""
    speech, words = Speech(processor.stream.text.decode), processor.vocabulary
    spaced = [words.end if token >= words.text else token for token in ids]  # an image flushes the text
    return "".join(speech.hear(t) if words.is_text(t) else speech.flush() for t in spaced) + speech.flush()


def closed(one):
    """Whether the plain loop adds the `end` that the model did not say."""
    return one.last.reason == "length" or one.job.settings.image_only


def some_jobs(parts, shapes):
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    shown = [{"type": "image", "image": picture}, {"type": "text", "text": "What?"}]
    greedy = replace(SETTINGS, text_sampler=Sampler(temperature=0), max_tokens=7)
    nucleus = replace(SETTINGS, text_sampler=Sampler(temperature=0.8, top_p=0.7), max_tokens=40)
    drawing = replace(SETTINGS, require_image=True, max_tokens=10)
    only = replace(SETTINGS, image_only=True)
    return [
        Heard("Hello there, how do you do?", shapes=shapes, seed=1),
        Heard("Hm", greedy, shapes=shapes, seed=2),
        Heard(shown, nucleus, shapes=shapes, seed=3),
        Heard("Draw a red circle.", drawing, shapes=shapes, seed=4),
        Heard("A blue star", only, shapes=shapes, seed=5),
        Heard("A green star, please", only, shapes=shapes, seed=6),
        Heard("Something long " * 9, nucleus, shapes=shapes, seed=7),
    ]


def test_a_batch_changes_nobodys_answer(parts, shapes, scheduler):
    jobs = some_jobs(parts, shapes)
    scheduler.submit([one.job for one in jobs[:3]])
    for _ in range(3):
        scheduler.tick()
    scheduler.submit([one.job for one in jobs[3:]])
    run(scheduler, jobs)
    for one in jobs:
        ids, content = alone(parts, one)
        assert isinstance(one.last, Ended)
        assert one.text == spoken(parts[1], ids)
        assert len(one.images) == len(images_of(content))
        for image, expected in zip(one.images, images_of(content), strict=True):
            assert (image == expected).all()
        assert one.last.said == len(ids) - closed(one)
    assert sum(len(one.images) for one in jobs) >= 3


def test_text_of_all_rows_comes_from_one_pass_and_images_that_start_together_share_theirs(parts, shapes):
    scheduler = Scheduler(*parts, Limits(rows=8))
    texts = replace(SETTINGS, allow_images=False, max_tokens=12)
    jobs = [Heard("Hi", texts, shapes=shapes, seed=n, extras=Extras(stop=())) for n in range(6)]
    scheduler.submit([one.job for one in jobs])
    run(scheduler, jobs)
    assert scheduler.counts.text_passes <= 13
    assert scheduler.counts.tokens > 24
    images = [Heard(f"A {n}", replace(SETTINGS, image_only=True), shapes=shapes, seed=n) for n in range(5)]
    scheduler.submit([one.job for one in images])
    run(scheduler, images)
    assert scheduler.counts.images == 5
    assert scheduler.counts.image_passes == len(shapes)


def test_text_goes_on_while_an_image_is_written(parts, shapes, scheduler):
    text = Heard("Hi", replace(SETTINGS, allow_images=False, max_tokens=60), shapes=shapes, seed=3)
    image = Heard("A star", replace(SETTINGS, image_only=True), shapes=shapes, seed=4)
    scheduler.submit([text.job, image.job])
    scheduler.tick()
    heard = len(text.events)
    for _ in range(len(shapes) - 1):
        assert not image.over
        scheduler.tick()
    assert image.over
    assert len(text.events) >= heard + len(shapes) - 2


def test_a_full_queue_refuses_whole_requests(parts, shapes):
    scheduler = Scheduler(*parts, Limits(rows=1, queue=2))
    jobs = [Heard("Hi", shapes=shapes, seed=n) for n in range(4)]
    scheduler.submit([one.job for one in jobs[:2]])
    with pytest.raises(Busy) as refused:
        scheduler.submit([one.job for one in jobs[2:]])
    assert refused.value.seconds >= 1
    assert scheduler.waiting == 2
    run(scheduler, jobs[:2])
    scheduler.submit([one.job for one in jobs[2:]])
    run(scheduler, jobs[2:])


def test_a_cancelled_job_frees_its_row_before_the_next_pass(parts, shapes):
    scheduler = Scheduler(*parts, Limits(rows=1))
    endless = replace(SETTINGS, allow_images=False, require_image=False, max_tokens=2000)
    first, second = (Heard("Hi", endless, shapes=shapes, seed=n) for n in (1, 2))
    drawn = Heard("A star", replace(SETTINGS, image_only=True), shapes=shapes, seed=4)
    last = Heard("Hi", replace(endless, max_tokens=3), shapes=shapes, seed=5)
    scheduler.submit([one.job for one in (first, second, drawn, last)])
    scheduler.tick()
    first.job.cancel()
    second.job.cancel()
    heard = len(first.events)
    scheduler.tick()
    assert [one.job for one in scheduler.running] == [drawn.job]
    drawn.job.cancel()
    scheduler.tick()
    assert [one.job for one in scheduler.running] == [last.job]
    run(scheduler, [last])
    assert len(first.events) == heard
    assert not second.events
    assert not drawn.images


class Spoilt(Sampler):
    """Raises where ids are drawn."""

    def probabilities(self, logits):
        raise RuntimeError("spoilt")


def spoil(plan):
    def hook(choice):
        raise RuntimeError("spoilt")

    return hook


def test_one_bad_request_harms_nobody(parts, shapes, scheduler):
    good = some_jobs(parts, shapes)[:2] + [
        Heard("A star", replace(SETTINGS, image_only=True), shapes=shapes, seed=n) for n in (8, 9)
    ]
    bad = [
        Heard("Hi", replace(SETTINGS, text_sampler=Spoilt()), shapes=shapes, seed=1),
        Heard("A", replace(SETTINGS, image_only=True), shapes=shapes, seed=1, extras=Extras(hook=spoil)),
        Heard([{"type": "image", "image": "/etc/passwd"}], shapes=shapes),
        Heard("x" * 100_000, shapes=shapes),
    ]
    wide = Scheduler(*parts, Limits(rows=8))
    wide.submit([one.job for pair in zip(good, bad, strict=True) for one in pair])
    run(wide, [*good, *bad])
    assert [one.last.status for one in bad] == [500, 500, 400, 400]
    for one in good:
        assert isinstance(one.last, Ended)
        ids, content = alone(parts, one)
        assert one.last.said == len(ids) - closed(one)
        assert [image.tolist() for image in one.images] == [i.tolist() for i in images_of(content)]


def test_rows_go_to_the_client_that_has_fewest(parts, shapes):
    scheduler = Scheduler(*parts, Limits(rows=2, queue=50))
    settings = replace(SETTINGS, allow_images=False, max_tokens=500)
    many = [Heard("Hi", settings, shapes=shapes, seed=n, client="many") for n in range(6)]
    few = Heard("Hi", settings, shapes=shapes, seed=9, client="few")
    scheduler.submit([one.job for one in many])
    scheduler.submit([few.job])
    scheduler.tick()
    assert {one.job.client for one in scheduler.running} == {"many", "few"}


def test_an_image_that_nobody_asks_for_is_not_drawn(parts, shapes):
    """Whether it is asked for is what `information` says of the ids before it; the turn is then taken anew
    without images, as if they had not been allowed."""
    model, processor = parts
    scheduler = Scheduler(*parts, Limits(rows=16))
    settings = replace(SETTINGS, max_tokens=10, max_images=1)
    jobs = [
        Heard(words, settings, shapes=shapes, seed=seed, extras=Extras(asked=True))
        for words in ("Hi", "Draw a red circle, please.")
        for seed in (24, 45, 74, 79, 81, 90)  # after "Hi" these start an image within ten ids
    ]
    scheduler.submit([one.job for one in jobs])
    run(scheduler, jobs)
    taken_back = 0
    for one in jobs:
        ids, content = alone(parts, one)
        if not images_of(content):
            continue
        prompt, null = one.job.prompt.ids(processor), one.job.prompt.null_ids(processor)
        said = ids[: ids.index(model.vocabulary.write)]
        if information(model, prompt, null, said) >= ASKED_FOR:
            assert [image.tolist() for image in one.images] == [i.tolist() for i in images_of(content)]
            continue
        taken_back += 1
        assert not one.images
        assert len(spoken(processor, said)) <= HELD
        one.job.settings = replace(settings, allow_images=False)
        assert one.text == spoken(processor, alone(parts, one)[0])
    assert taken_back >= 4


def test_stop_strings_end_the_text_before_them(parts, shapes, scheduler):
    settings = replace(SETTINGS, allow_images=False, max_tokens=40)
    free = Heard("Hi", settings, shapes=shapes, seed=21)
    scheduler.submit([free.job])
    run(scheduler, [free])
    at = next(n for n in range(3, len(free.text) - 2) if free.text[n : n + 2].isascii())
    stop = free.text[at : at + 2]
    cut = Heard("Hi", settings, shapes=shapes, seed=21, extras=Extras(stop=(stop, "never said")))
    scheduler.submit([cut.job])
    run(scheduler, [cut])
    assert cut.text == free.text[: free.text.index(stop)]
    assert cut.last.reason == "stop"


def test_tokens_are_scored_as_the_model_finds_them(parts, shapes, scheduler):
    settings = replace(SETTINGS, text_sampler=Sampler(temperature=0), allow_images=False, max_tokens=6)
    one = Heard("Hi", settings, shapes=shapes, extras=Extras(top=3))
    scheduler.submit([one.job])
    run(scheduler, [one])
    tokens = [token for event in one.events if hasattr(event, "tokens") for token in event.tokens]
    assert len(tokens) == 6
    for token in tokens:  # greedy: the likeliest is the one that was said
        assert token.top[0][1] == pytest.approx(token.log_prob)
        assert [score for _, score in token.top] == sorted((s for _, s in token.top), reverse=True)
        assert token.log_prob < 0


def test_a_request_may_not_run_for_ever(parts, shapes, scheduler):
    settings = replace(SETTINGS, allow_images=False, max_tokens=100_000)
    text = Heard("Hi", settings, shapes=shapes, seconds=0.05)
    image = Heard("Hi", replace(settings, require_image=True), shapes=shapes, seconds=0.05)
    scheduler.submit([text.job, image.job])
    run(scheduler, [text, image], most=100_000)
    assert text.last.reason == "length" or text.last.reason == "stop"
    assert isinstance(image.last, Failed) or image.images


def test_those_who_wait_are_told_when_the_server_stops(parts, shapes):
    scheduler = Scheduler(*parts, Limits(rows=1))
    jobs = [Heard("Hi", shapes=shapes, seed=n) for n in range(3)]
    scheduler.submit([one.job for one in jobs])
    scheduler.tick()
    scheduler.stop()
    assert all(one.last == Failed(503, "the server is stopping") for one in jobs)
