"""What is saved stays, whole, for its own visitor."""

import json
import sqlite3
import threading

import pytest

from unified.web.store import DATABASE, VOTES, Store

RECORD = {"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4], "tokenizer": "0", "by": "person"}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "kept")


def test_a_conversation_is_read_as_it_was_saved_and_replaced_whole(store):
    store.save("v", "n", "title", ["> Hello", b"png", "Hi"], {"ids": [1]})
    found = store.load("v", "n")
    assert (found.entries, found.state, found.title) == (["> Hello", b"png", "Hi"], {"ids": [1]}, "title")
    store.save("v", "n", "title", ["> Hello"], {})
    assert store.load("v", "n").entries == ["> Hello"]


def test_a_visitor_finds_own_conversations_alone(store):
    store.save("one", "a", "first", ["> 1"], {})
    store.save("two", "b", "second", ["> 2"], {})
    assert store.conversations("one") == [("a", "first")]
    assert store.load("two", "a") is None
    store.delete("two", "a")
    with pytest.raises(ValueError, match="another visitor"):
        store.save("two", "a", "mine now", ["> 3"], {})
    assert store.load("one", "a").entries == ["> 1"]
    store.delete("one", "a")
    assert store.conversations("one") == []


def test_the_latest_conversation_comes_first_and_the_secret_stays(store, tmp_path):
    for number in "abc":
        store.save("v", number, number, [number], {})
    store.save("v", "a", "a", ["again"], {})
    assert [number for number, _ in store.conversations("v")] == ["a", "c", "b"]
    assert Store(tmp_path / "kept").secret == store.secret


def test_votes_are_in_the_file_and_what_the_file_lost_comes_back(store, tmp_path):
    store.vote("a prompt", RECORD)
    store.vote("another", RECORD | {"chosen_ids": [5]})
    path = tmp_path / "kept" / VOTES
    lines = path.read_text()
    assert [json.loads(line)["chosen_ids"] for line in lines.splitlines()] == [[3], [5]]
    path.write_text(lines[:30])
    Store(tmp_path / "kept")
    assert path.read_text() == lines


def test_the_file_is_written_ahead_and_threads_share_it(store, tmp_path):
    database = sqlite3.connect(tmp_path / "kept" / DATABASE)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    threads = [threading.Thread(target=lambda: [store.vote("p", RECORD) for _ in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.votes()) == 20
