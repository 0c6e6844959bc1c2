"""A visitor's chat: what it refuses, what is kept of it, and that it goes on where it was."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from unified.train.preference.data import check_pair

from unified.apps.answering import ImageStep
from unified.apps.preferring import Pair
from unified.web.store import DATABASE, VOTES, Store
from unified.web.talking import SHOWN, PageChat, answered, messages

ROOT = Path(__file__).resolve().parents[3]
PICTURE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)


@pytest.fixture
def chat(site):
    return PageChat(site.assistant(), site.digest, max_tokens=3)


def said(site, chat, words, files=(), visitor="v"):
    """The last state that is told of an answer."""

    async def all_of_it():
        return [parts async for parts, _ in answered(site, chat, visitor, words, files)][-1]

    return asyncio.run(all_of_it())


@pytest.fixture
def picture_file(tmp_path):
    from PIL import Image

    Image.fromarray(PICTURE).save(tmp_path / "picture.png")
    return str(tmp_path / "picture.png")


@pytest.mark.parametrize("line", ["/image /etc/passwd", "/save x.png", "/save x.txt", "/solve /etc/passwd"])
def test_no_command_reads_or_writes_a_file(site, chat, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts = said(site, chat, line)
    assert parts[-1][0] == "assistant"
    assert parts[-1][1].startswith("!")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_message_with_a_picture_is_answered_kept_and_taken_back(site, chat, picture_file):
    parts = said(site, chat, "Hello.", [picture_file])
    assert [role for role, _ in parts[:2]] == ["user", "user"]
    assert (parts[0][1] == PICTURE).all()
    assert parts[1][1] == "Hello."
    kept = site.store.load("v", chat.number)
    assert kept.entries[0] == SHOWN
    assert kept.title == "Hello."
    said(site, chat, "/undo")
    assert len(messages(chat.transcript.entries)) == 1
    number = chat.number
    said(site, chat, "/new")
    assert chat.number != number
    assert site.store.load("v", number).entries[0] == SHOWN


def test_a_conversation_goes_on_where_it_was_saved(site, chat, picture_file):
    said(site, chat, "Hello.", [picture_file])
    said(site, chat, "And now.")
    other = PageChat(site.assistant(), site.digest, max_tokens=3)
    assert other.restore(site.store.load("v", chat.number))
    assert other.talk.ids == chat.talk.ids
    assert len(other.waiting) == len(chat.waiting)
    assert said(site, other, "Go on.")[-1][1] == said(site, chat, "Go on.")[-1][1]
    stranger = PageChat(site.assistant(), "another model", max_tokens=3)
    assert not stranger.restore(site.store.load("v", chat.number))
    assert len(stranger.talk.ids) == 1


def test_visitors_do_not_share_a_chat(site):
    one, two = (PageChat(site.assistant(), site.digest, max_tokens=3) for _ in range(2))
    said(site, one, "Hello.", visitor="one")
    assert two.transcript.entries == []
    assert site.store.conversations("two") == []
    one.model.seed = 9
    assert two.model.seed == site.service.assistant.seed == 0


def test_a_vote_is_a_record_that_preference_tuning_takes(site, assistant):
    pair = Pair(assistant, assistant.request("Draw a star."), draw=True, max_tokens=4, seed=1)
    assert any([isinstance(event, ImageStep) for event in pair.events()])  # a list: to the end
    assert [content[-1]["type"] for content in pair.contents()] == ["image", "image"]
    record = pair.record(1)
    check_pair(record, assistant.processor)
    assert record["chosen_ids"] == pair.ids()[1]
    assert record["tokenizer"] == site.digest


CHILD = """
import asyncio, sys
from pathlib import Path
from unified.apps.assistant import Assistant
from unified.apps.demo import random_model
from unified.server.limits import Limits
from unified.server.scheduler import Scheduler
from unified.server.service import Service
from unified.server.worker import Worker
from unified.web.site import Site
from unified.web.store import Store
from unified.web.talking import PageChat, answered

assistant = Assistant(*random_model(), side=32)
worker = Worker(Scheduler(assistant.model, assistant.processor, Limits()))
worker.start()
site = Site(Service(assistant, worker, Limits(), "tiny"), Store(Path(sys.argv[1])))

async def talk():
    chat = PageChat(site.assistant(), site.digest, max_tokens=3)
    async for _ in answered(site, chat, "v", "first", []):
        pass
    site.store.vote("p", {"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]})
    chat.talk.settings = __import__("dataclasses").replace(chat.talk.settings, max_tokens=10**6)
    async for _, what in answered(site, chat, "v", "second", []):
        print(what, flush=True)

asyncio.run(talk())
"""


@pytest.mark.slow
def test_a_process_that_is_killed_in_mid_answer_loses_nothing_that_was_saved(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert child.stdout.readline() == "waiting for the model\n"
        assert child.stdout.readline().strip()  # the answer has begun
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    store = Store(tmp_path)
    ((number, title),) = store.conversations("v")
    entries = store.load("v", number).entries
    assert title == "first"
    assert (entries[0], entries[-1]) == ("> first", "> second")
    assert len(store.votes()) == 1
    assert len((tmp_path / VOTES).read_text().splitlines()) == 1
    import sqlite3

    checked = sqlite3.connect(tmp_path / DATABASE).execute("PRAGMA integrity_check").fetchone()
    assert checked == ("ok",)
