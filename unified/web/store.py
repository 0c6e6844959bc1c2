"""Conversations and votes in one SQLite file; what was saved survives a process that is killed.

Every method is one transaction in write-ahead mode with full synchronisation: it is on the disk when the
method returns, or it is not there at all. Votes are also appended to `votes.jsonl`, the records that
`python -m unified.train prefer` reads; the database decides, and the file is completed when it is opened.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATABASE, VOTES = "page.sqlite3", "votes.jsonl"
TITLE = 60  # letters of a conversation's name

_TABLES = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS conversations (
    number TEXT PRIMARY KEY, visitor TEXT NOT NULL, title TEXT NOT NULL, changed REAL NOT NULL,
    state TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_visitor ON conversations (visitor, changed);
CREATE TABLE IF NOT EXISTS entries (
    conversation TEXT NOT NULL REFERENCES conversations (number) ON DELETE CASCADE,
    place INTEGER NOT NULL, text TEXT, picture BLOB, PRIMARY KEY (conversation, place));
CREATE TABLE IF NOT EXISTS votes (
    number INTEGER PRIMARY KEY, at REAL NOT NULL, prompt TEXT NOT NULL, record TEXT NOT NULL);
"""

Entry = str | bytes  # a text, or a picture as a PNG file


@dataclass(frozen=True)
class Saved:
    """A conversation: `entries` in order, and the `state` from which it goes on."""

    number: str
    title: str
    entries: list[Entry]
    state: dict[str, Any]


class Store:
    """`folder`: made where it is missing. OSError or sqlite3.Error where it cannot be written. Methods may be
    called from any thread. A visitor is found by a name that cannot be guessed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._lock = folder, threading.Lock()
        self._database = sqlite3.connect(folder / DATABASE, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("PRAGMA foreign_keys = ON")
        self._database.executescript(_TABLES)
        self._complete_votes()

    def close(self) -> None:
        self._database.close()

    @property
    def secret(self) -> str:
        """A secret of this store, the same each time it is opened."""
        with self._transaction() as database:
            row = ("secret", secrets.token_hex(16))
            database.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", row)
            found = database.execute("SELECT value FROM settings WHERE name = 'secret'").fetchone()
        return str(found[0])

    # Conversations ------------------------------------------------------------------------------------------

    def save(
        self, visitor: str, number: str, title: str, entries: Sequence[Entry], state: dict[str, Any]
    ) -> None:
        """Write a conversation in the place of what was saved of it."""
        row = (number, visitor, title[:TITLE], time.time(), json.dumps(state))
        rows = [
            (number, place, *((entry, None) if isinstance(entry, str) else (None, entry)))
            for place, entry in enumerate(entries)
        ]
        with self._transaction() as database:
            self._check_owner(database, visitor, number)
            database.execute(
                "INSERT INTO conversations VALUES (?, ?, ?, ?, ?) ON CONFLICT (number) DO UPDATE SET "
                "title = excluded.title, changed = excluded.changed, state = excluded.state",
                row,
            )
            database.execute("DELETE FROM entries WHERE conversation = ?", (number,))
            database.executemany("INSERT INTO entries VALUES (?, ?, ?, ?)", rows)

    def conversations(self, visitor: str) -> list[tuple[str, str]]:
        """(number, title) of a visitor's conversations, the latest first."""
        with self._transaction() as database:
            rows = database.execute(
                "SELECT number, title FROM conversations WHERE visitor = ? ORDER BY changed DESC", (visitor,)
            ).fetchall()
        return [(str(number), str(title)) for number, title in rows]

    def load(self, visitor: str, number: str) -> Saved | None:
        """A conversation of this visitor; None for one that is not there, or another's."""
        with self._transaction() as database:
            found = database.execute(
                "SELECT title, state FROM conversations WHERE number = ? AND visitor = ?", (number, visitor)
            ).fetchone()
            rows = database.execute(
                "SELECT text, picture FROM entries WHERE conversation = ? ORDER BY place", (number,)
            ).fetchall()
        if found is None:
            return None
        entries = [text if picture is None else picture for text, picture in rows]
        return Saved(number, found[0], entries, json.loads(found[1]))

    def delete(self, visitor: str, number: str) -> None:
        """Remove a conversation of this visitor, if it is there."""
        with self._transaction() as database:
            database.execute("DELETE FROM conversations WHERE number = ? AND visitor = ?", (number, visitor))

    # Votes --------------------------------------------------------------------------------------------------

    def vote(self, prompt: str, record: dict[str, Any]) -> None:
        """Add a choice: a record as `apps.preferring.Pair.record` gives it."""
        line = json.dumps(record)
        with self._transaction() as database:
            row = (time.time(), prompt, line)
            database.execute("INSERT INTO votes (at, prompt, record) VALUES (?, ?, ?)", row)
            with (self.folder / VOTES).open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def votes(self) -> list[dict[str, Any]]:
        """All records, in order."""
        with self._transaction() as database:
            rows = database.execute("SELECT record FROM votes ORDER BY number").fetchall()
        return [json.loads(row[0]) for row in rows]

    def _complete_votes(self) -> None:
        """Write the file of votes anew where it is not what the database holds."""
        lines = "".join(json.dumps(record) + "\n" for record in self.votes())
        path = self.folder / VOTES
        if (path.read_text(encoding="utf-8") if path.exists() else "") != lines:
            new = path.with_suffix(".new")
            new.write_text(lines, encoding="utf-8")
            new.replace(path)

    # Inside -------------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _check_owner(self, database: sqlite3.Connection, visitor: str, number: str) -> None:
        found = database.execute("SELECT visitor FROM conversations WHERE number = ?", (number,)).fetchone()
        if found is not None and found[0] != visitor:
            raise ValueError("this conversation is another visitor's")
