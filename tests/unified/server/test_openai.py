"""OpenAI's own client against a running server."""

import base64
import io
import time
from dataclasses import replace

import numpy as np
import openai
import pytest
from PIL import Image

from unified.apps.answering import Turn, images_of
from unified.apps.assistant import DRAWING
from unified.decoding.session import Session
from unified.server.limits import Limits, RequestLimits
from unified.server.uploads import data_url

PICTURE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)


def shown(picture=PICTURE, words="What is this?"):
    image = {"type": "image_url", "image_url": {"url": data_url(picture)}}
    return [{"role": "user", "content": [{"type": "text", "text": words}, image]}]


def pixels(held):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(held))))


def png_file(array, mode=None):
    file = io.BytesIO()
    Image.fromarray(array, mode).save(file, "PNG")
    return "picture.png", file.getvalue(), "image/png"


@pytest.fixture(scope="module")
def client(server):
    return server.client()


@pytest.fixture(scope="module")
def painter(serve):
    """A client of a server that draws one image for each answer."""
    return serve(limits=Limits(request=RequestLimits(tokens=8, images=1))).client()


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["unified"]
    assert client.models.retrieve("unified").id == "unified"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_a_chat_about_an_image_gives_the_same_answer_each_time(client):
    options = {"model": "unified", "messages": shown(), "max_tokens": 12, "seed": 3, "temperature": 1.0}
    first, second = (client.chat.completions.create(**options) for _ in range(2))
    assert first.choices[0].message.content == second.choices[0].message.content
    assert first.choices[0].finish_reason in ("stop", "length")
    assert first.usage.prompt_tokens > 10
    assert first.usage.completion_tokens > 0
    assert first._request_id


def test_choices_differ_and_tokens_are_scored(client):
    found = client.chat.completions.create(
        model="unified", messages=shown(), n=3, seed=1, temperature=1.0, max_tokens=8, logprobs=True,
        top_logprobs=2, modalities=["text"],
    )  # fmt: skip
    assert [choice.index for choice in found.choices] == [0, 1, 2]
    for choice in found.choices:
        assert 1 <= len(choice.logprobs.content) <= 8
        assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in choice.logprobs.content)
    assert len({tuple(t.token for t in choice.logprobs.content) for choice in found.choices}) == 3


def parts_of(message):
    content = message.content
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def test_a_stream_says_what_the_whole_answer_says(client):
    options = {"model": "unified", "messages": shown(), "max_tokens": 30, "seed": 5, "temperature": 1.0}
    options["modalities"] = ["text", "image"]
    whole = client.chat.completions.create(**options)
    text, images, finish, usage = "", [], None, None
    for chunk in client.chat.completions.create(
        **options, stream=True, stream_options={"include_usage": True}
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            content = choice.delta.content
            text += content if isinstance(content, str) else ""
            images += content if isinstance(content, list) else []
    parts = parts_of(whole.choices[0].message)
    assert text == "".join(part["text"] for part in parts if part["type"] == "text")
    assert images == [part for part in parts if part["type"] == "image_url"]
    assert finish == whole.choices[0].finish_reason
    assert usage == whole.usage


def test_images_that_a_chat_draws_are_data_urls_and_can_be_sent_back(client, assistant):
    for seed in range(40):
        found = client.chat.completions.create(
            model="unified", messages=shown(), seed=seed, temperature=1.0, max_tokens=80,
            modalities=["text", "image"], extra_body={"max_images": 1},
        )  # fmt: skip
        parts = parts_of(found.choices[0].message)
        images = [part for part in parts if part["type"] == "image_url"]
        if images:
            break
    else:
        pytest.fail("no seed draws")
    head, held = images[0]["image_url"]["url"].split(",")
    assert head == "data:image/png;base64"
    assert pixels(held).shape == (32, 32, 3)
    again = [*shown(), {"role": "assistant", "content": parts}, {"role": "user", "content": "And now?"}]
    assert client.chat.completions.create(model="unified", messages=again, max_tokens=4).choices


def test_an_image_is_drawn_as_the_loop_of_the_verbs_draws_it(painter, assistant):
    found = painter.images.generate(prompt="Draw a red circle.", n=2, extra_body={"seed": 0})
    images = [pixels(image.b64_json) for image in found.data]
    settings = replace(DRAWING, max_tokens=8, max_images=1)
    session = Session(assistant.model, seed=0)
    session.feed(assistant.processor.encode(assistant.request("Draw a red circle."), prompt=True))
    turn = Turn(session, assistant.processor, assistant.shapes((32, 32)), settings)
    for _ in turn.events():
        pass
    assert (images[0] == images_of(turn.content(0))[-1]).all()
    assert images[1].shape == (32, 32, 3)


def test_sizes_are_width_times_height(painter):
    found = painter.images.generate(prompt="A star", size="48x32")
    assert pixels(found.data[0].b64_json).shape == (32, 48, 3)
    with pytest.raises(openai.BadRequestError) as refused:
        painter.images.generate(prompt="A star", size="33x32")
    assert refused.value.param == "size"


def test_an_edit_with_a_mask_keeps_the_codes_outside_it(painter, assistant):
    picture = assistant.picture(assistant.codes(PICTURE))
    alpha = np.full((32, 32), 255, np.uint8)
    alpha[-8:, -8:] = 0  # one cell of the finest map is painted anew
    mask = np.dstack([np.zeros((32, 32, 3), np.uint8), alpha])
    options = {"image": png_file(picture), "prompt": "A blue star", "extra_body": {"temperature": 1.5}}
    free = pixels(painter.images.edit(**options).data[0].b64_json)
    painted = pixels(painter.images.edit(**options, mask=png_file(mask)).data[0].b64_json)
    read = assistant.codes(picture)[0]
    changed = np.repeat(read[None], len(assistant.visual.codebook()), axis=0)
    changed[:, -1, -1] = np.arange(len(changed))
    possible = [assistant.picture([codes]).astype(int) for codes in changed]
    off = [np.abs(painted - one).max() for one in possible]
    assert free.shape == painted.shape == (32, 32, 3)
    assert min(off) <= 1, "with every other code kept, only this many images can come out"
    assert min(np.abs(free - one).max() for one in possible) > 1


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": []}, "messages"),
        ({"temperature": 3.0}, "temperature"),
        ({"n": 99}, "n"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"stop": [""]}, "stop"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, "messages"),
        ({"extra_body": {"nonsense": 1}}, "nonsense"),
        ({"extra_body": {"image_size": "1x1"}}, "image_size"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ],
)
def test_bad_requests_name_the_parameter(client, changes, param):
    options = {"model": "unified", "messages": shown(), **changes}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**options)
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"


def test_errors_are_the_clients_own_types(client, serve):
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="gpt-4", messages=shown())
    assert refused.value.code == "model_not_found"
    small = serve(limits=Limits(prompt=64, request=RequestLimits(bytes=20_000)))
    with pytest.raises(openai.BadRequestError, match="at most 64"):
        small.client().chat.completions.create(
            model="unified", messages=[{"role": "user", "content": "x" * 200}], stream=True
        )
    with pytest.raises(openai.APIStatusError) as refused:
        small.client().chat.completions.create(
            model="unified", messages=[{"role": "user", "content": "x" * 30_000}]
        )
    assert refused.value.status_code == 413


def test_a_full_queue_is_a_rate_limit_and_a_client_that_leaves_frees_its_row(serve):
    crowded = serve(limits=Limits(rows=1, queue=0, request=RequestLimits(tokens=100_000)))
    client = crowded.client()
    options = {"model": "unified", "messages": shown(), "max_tokens": 100_000, "modalities": ["text"]}
    # What is said is random: a seed whose text does not end soon
    stream = client.chat.completions.create(**options, temperature=2.0, seed=11, stream=True)
    next(iter(stream))
    assert crowded.number("unified_rows") == 1
    with pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(**options)
    assert int(refused.value.response.headers["retry-after"]) >= 1
    stream.close()
    began = time.monotonic()
    while crowded.number("unified_rows"):
        assert time.monotonic() - began < 1.0
        time.sleep(0.02)
    assert client.chat.completions.create(**{**options, "max_tokens": 2}).choices
