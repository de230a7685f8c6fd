"""Where votes are kept: a database in a folder, exported as lines of JSON, and a dataset repo that these are pushed to."""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bianque.arena.battle import Problem, Vote, parse, written
from bianque.errors import BadInput

# `file`: which lines a vote was read from; NULL if it was cast here. The primary key makes a second vote impossible.
SCHEMA = """
CREATE TABLE IF NOT EXISTS votes (
    battle TEXT PRIMARY KEY, time TEXT NOT NULL, a TEXT NOT NULL, b TEXT NOT NULL, line BLOB NOT NULL, file TEXT
);
CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, size INTEGER NOT NULL, changed INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS problems (file TEXT, line INTEGER, reason TEXT, PRIMARY KEY (file, line));
CREATE TABLE IF NOT EXISTS export (file TEXT NOT NULL);
"""
WAIT = 30.0  # seconds for another process that writes


class Votes:
    """The votes in a folder: those cast here, and those read once from its `*.jsonl` and the ones in `hub/` below it.

    Any number of threads and processes may use one folder at once: SQLite lets one writer in at a time, and what
    `add` has written stays whatever is killed (write-ahead log, synced to the disk with each vote).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.hub = self.folder / "hub"
        self.path = self.folder / "votes.sqlite3"

    def add(self, vote: Vote) -> None:
        """Keep a vote, on disk when this returns; BadInput if its battle has one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._opened() as base:
            self._read_files(base)
            if not self._insert(base, vote, None):
                raise BadInput("这场对战已经投过票，请开始新的一场 (this battle has a vote already: start another)")

    def read(self) -> tuple[list[Vote], list[Problem]]:
        """All votes, the oldest first, and the lines of files that are none; a torn last line is left out."""
        if not self.folder.is_dir():
            return [], []
        with self._opened() as base:
            self._read_files(base)
            lines = base.execute("SELECT line FROM votes ORDER BY time, battle").fetchall()
            problems = base.execute("SELECT file, line, reason FROM problems ORDER BY file, line").fetchall()
        return [parse(line) for (line,) in lines], [Problem(*problem) for problem in problems]

    def counts(self) -> Counter[frozenset[str]]:
        """Votes so far of each two players, by name."""
        found: Counter[frozenset[str]] = Counter()
        if self.folder.is_dir():
            with self._opened() as base:
                self._read_files(base)
                for a, b, count in base.execute("SELECT a, b, count(*) FROM votes GROUP BY a, b"):
                    found[frozenset((a, b))] += count
        return found

    def mark(self) -> tuple[int, int]:
        """Another one whenever `read` would tell something new."""
        if not self.folder.is_dir():
            return 0, 0
        with self._opened() as base:
            self._read_files(base)
            return base.execute("SELECT (SELECT count(*) FROM votes), (SELECT count(*) FROM problems)").fetchone()

    def export(self) -> Path | None:
        """Write the votes cast here as lines of JSON, in the order they came, into a file of this folder's own."""
        if not self.path.exists():
            return None
        with self._opened() as base:
            lines = [line for (line,) in base.execute("SELECT line FROM votes WHERE file IS NULL ORDER BY rowid")]
            if not lines:
                return None
            path = self.folder / self._export_name(base)
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        part.write_bytes(b"".join(lines))
        part.replace(path)
        return path

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction, which is rolled back if anything is raised."""
        if not self.path.exists():  # what people said is nobody else's to read
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        with closing(sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)) as base:
            base.execute("PRAGMA journal_mode = WAL")
            base.execute("PRAGMA synchronous = FULL")
            base.execute("BEGIN IMMEDIATE")
            for statement in filter(str.strip, SCHEMA.split(";")):
                base.execute(statement)
            try:
                yield base
            except BaseException:
                base.rollback()
                raise
            base.commit()

    @staticmethod
    def _insert(base: sqlite3.Connection, vote: Vote, file: str | None) -> bool:
        row = (vote.battle, vote.time, vote.a.name, vote.b.name, written(vote), file)
        return base.execute("INSERT OR IGNORE INTO votes VALUES (?, ?, ?, ?, ?, ?)", row).rowcount == 1

    @staticmethod
    def _export_name(base: sqlite3.Connection) -> str:
        """The same for as long as the database lives."""
        if found := base.execute("SELECT file FROM export").fetchone():
            return str(found[0])
        now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        name = f"votes-{now}-{secrets.token_hex(8)}.jsonl"
        base.execute("INSERT INTO export VALUES (?)", (name,))
        return name

    def _read_files(self, base: sqlite3.Connection) -> None:
        """Take in the files that are new or have changed; a vote that is known already stays as it is."""
        known = {name: state for name, *state in base.execute("SELECT name, size, changed FROM files")}
        known |= {name: None for (name,) in base.execute("SELECT file FROM export")}  # our own
        for path in (*self.folder.glob("*.jsonl"), *self.hub.glob("*.jsonl")):
            name = str(path.relative_to(self.folder))
            with suppress(FileNotFoundError):  # replaced or removed meanwhile
                state = [path.stat().st_size, path.stat().st_mtime_ns]
                if name in known and known[name] in (None, state):
                    continue
                base.execute("DELETE FROM problems WHERE file = ?", (path.name,))
                self._read_file(base, path)
                base.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (name, *state))

    def _read_file(self, base: sqlite3.Connection, path: Path) -> None:
        *whole, torn = path.read_bytes().split(b"\n")
        for number, line in enumerate(whole, 1):
            try:
                if line.strip():
                    self._insert(base, parse(line), path.name)
            except BadInput as error:
                base.execute("INSERT OR REPLACE INTO problems VALUES (?, ?, ?)", (path.name, number, str(error)))
        # A beginning of an object is never JSON itself, so what parses is whole and lacks but its line end.
        with suppress(BadInput):
            self._insert(base, parse(torn), path.name)


@dataclass(frozen=True, slots=True)
class Where:
    """Where votes go: a dataset repo or, `repo` None, this machine alone; when they were last pushed, what failed."""

    repo: str | None = None
    pushed: str | None = None
    error: str | None = None


class Publisher:
    """Pushes a folder's votes to a dataset repo every few minutes; whatever fails there, they stay in the folder."""

    def __init__(self, votes: Votes, repo: str | None, every: float = 5, api: Any = None) -> None:
        """`repo` as `me/votes`, None for no pushing; `every` in minutes; `api`, an HfApi, if not the default."""
        self.votes, self.repo, self.every, self._api = votes, repo, every, api
        self._state = Where(repo)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._begin, daemon=True, name="votes")
        self._scheduler: Any = None
        if repo:
            self._thread.start()

    def where(self) -> Where:
        return self._state

    def close(self) -> None:
        """Push what is left and stop; at the end of the process this happens by itself."""
        self._closed.set()
        if self.repo:
            self._thread.join()
        if self._scheduler:
            with suppress(Exception):  # `where` tells it
                self._scheduler.trigger().result()
            self._scheduler.stop()

    def _begin(self) -> None:
        """Make the repo if need be and fetch what earlier starts and other machines have pushed; until it succeeds."""
        while not self._closed.is_set():
            try:
                if not (api := self._api or self._hub()):
                    return
                self._scheduler = self._scheduler or self._schedule(api)
                # Beside the folder that is pushed: a copy must not take the place of a file that still grows elsewhere.
                api.snapshot_download(
                    self.repo, repo_type="dataset", allow_patterns="*.jsonl", local_dir=self.votes.hub
                )
                return
            except Exception as error:  # whatever the Hub or the network does, the votes are here and the page goes on
                self._failed(error)
            self._closed.wait(self.every * 60)

    def _hub(self) -> Any:
        from huggingface_hub import HfApi, get_token

        if token := get_token():
            return HfApi(token=token)
        self._state = replace(self._state, repo=None, error="HF_TOKEN is not set")
        return None

    def _schedule(self, api: Any) -> Any:
        from huggingface_hub import CommitScheduler

        publisher = self

        class Pushing(CommitScheduler):
            def push_to_hub(self) -> Any:
                try:
                    publisher.votes.export()
                    commit = super().push_to_hub()
                except Exception as error:
                    publisher._failed(error)
                    raise
                publisher._pushed(commit is not None)
                return commit

        return Pushing(
            repo_id=str(self.repo),
            repo_type="dataset",
            private=True,
            folder_path=self.votes.folder,
            every=self.every,
            allow_patterns="*.jsonl",
            ignore_patterns="hub/*",
            hf_api=api,
        )

    def _failed(self, error: Exception) -> None:
        status = getattr(getattr(error, "response", None), "status_code", "")
        self._state = replace(self._state, error=f"{type(error).__name__} {status}".strip())

    def _pushed(self, something: bool) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._state = replace(self._state, pushed=now if something else self._state.pushed, error=None)
