"""What visitors left, one line of JSON each: a database in a folder, which also reads JSONL files and writes one."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from bianque.arena.battle import BadLine
from bianque.errors import BadInput

Item = TypeVar("Item")

# `file`: which lines an item was read from; NULL if it was left here. The primary key makes a second one impossible.
SCHEMA = """
CREATE TABLE IF NOT EXISTS {kind} ({key} TEXT PRIMARY KEY, {others}, line BLOB NOT NULL, file TEXT);
CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, size INTEGER NOT NULL, changed INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS problems (file TEXT, line INTEGER, reason TEXT, PRIMARY KEY (file, line));
CREATE TABLE IF NOT EXISTS export (file TEXT NOT NULL);
"""
WAIT = 30.0  # seconds for another process that writes


class Journal(ABC, Generic[Item]):
    """The items of a folder: those left here, and those read once from its `*.jsonl` and from `hub`.

    Any number of threads and processes may use one folder at once: SQLite lets one writer in at a time, and what
    `put` has written stays whatever is killed (write-ahead log, synced to the disk with each item).
    """

    kind: ClassVar[str]  # names the table and the files
    columns: ClassVar[tuple[str, ...]]  # what `values` gives: the key, the time, what is counted by
    parse: Callable[[bytes], Item]  # a line; BadInput says what is wrong with it
    written: Callable[[Item], bytes]

    def __init__(self, folder: Path, hub: Path) -> None:
        self.folder, self.hub = Path(folder), Path(hub)
        self.path = self.folder / f"{self.kind}.sqlite3"

    @abstractmethod
    def values(self, item: Item) -> tuple[str, ...]:
        """In the order of `columns`."""

    def put(self, item: Item, anew: bool = False) -> bool:
        """Keep an item, on disk when this returns; False if its key is taken, which `anew` replaces."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.opened() as base:
            return self._insert(base, item, None, "REPLACE" if anew else "IGNORE")

    def remove(self, key: str) -> None:
        """Forget what was left here under this key."""
        if self.path.exists():
            with self.opened() as base:
                base.execute(f"DELETE FROM {self.kind} WHERE {self.columns[0]} = ? AND file IS NULL", (key,))

    def read(self) -> tuple[list[Item], list[BadLine]]:
        """All items, the oldest first, and the lines of files that are none; a torn last line is left out."""
        if not self.there:
            return [], []
        with self.opened() as base:
            lines = base.execute(f"SELECT line FROM {self.kind} ORDER BY time, {self.columns[0]}").fetchall()
            problems = base.execute("SELECT file, line, reason FROM problems ORDER BY file, line").fetchall()
        return [self.parse(line) for (line,) in lines], [BadLine(*problem) for problem in problems]

    def mark(self) -> tuple[int, int]:
        """Another one whenever `read` would tell something new."""
        if not self.there:
            return 0, 0
        with self.opened() as base:
            query = f"SELECT (SELECT count(*) FROM {self.kind}), (SELECT count(*) FROM problems)"
            return base.execute(query).fetchone()

    def export(self) -> Path | None:
        """Write what was left here as lines of JSON, in the order it came, into a file of this folder's own."""
        if not self.path.exists():
            return None
        with self.opened() as base:
            query = f"SELECT line FROM {self.kind} WHERE file IS NULL ORDER BY rowid"
            lines = [line for (line,) in base.execute(query)]
            if not lines and not base.execute("SELECT file FROM export").fetchone():
                return None
            path = self.folder / self._export_name(base)
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        part.write_bytes(b"".join(lines))
        part.replace(path)
        return path

    @property
    def there(self) -> bool:
        return self.folder.is_dir() or self.hub.is_dir()

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction, which is rolled back if anything is raised; new files are read first."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():  # what people said is nobody else's to read
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        with closing(sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)) as base:
            logged_ahead(base)
            base.execute("PRAGMA synchronous = FULL")
            base.execute("PRAGMA secure_delete = ON")  # what is taken back is overwritten, not only forgotten
            base.execute("BEGIN IMMEDIATE")
            others = ", ".join(f"{column} TEXT NOT NULL" for column in self.columns[1:])
            for statement in SCHEMA.format(kind=self.kind, key=self.columns[0], others=others).split(";"):
                base.execute(statement)
            try:
                self._read_files(base)
                yield base
            except BaseException:
                base.rollback()
                raise
            base.commit()

    def _insert(self, base: sqlite3.Connection, item: Item, file: str | None, taken: str = "IGNORE") -> bool:
        row = (*self.values(item), self.written(item), file)
        marks = ", ".join("?" * len(row))
        return base.execute(f"INSERT OR {taken} INTO {self.kind} VALUES ({marks})", row).rowcount == 1

    def _export_name(self, base: sqlite3.Connection) -> str:
        """The same for as long as the database lives."""
        if found := base.execute("SELECT file FROM export").fetchone():
            return str(found[0])
        now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        name = f"{self.kind}-{now}-{secrets.token_hex(8)}.jsonl"
        base.execute("INSERT INTO export VALUES (?)", (name,))
        return name

    def _read_files(self, base: sqlite3.Connection) -> None:
        """Take in the files that are new or have changed; an item that is known already stays as it is."""
        known = {name: state for name, *state in base.execute("SELECT name, size, changed FROM files")}
        known |= {name: None for (name,) in base.execute("SELECT file FROM export")}  # our own
        for folder in (self.folder, self.hub):
            for path in folder.glob("*.jsonl"):
                name = path.name if folder == self.folder else f"hub/{path.name}"
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
                    self._insert(base, self.parse(line), path.name)
            except BadInput as error:
                base.execute("INSERT OR REPLACE INTO problems VALUES (?, ?, ?)", (path.name, number, str(error)))
        # A beginning of an object is never JSON itself, so what parses is whole and lacks but its line end.
        with suppress(BadInput):
            self._insert(base, self.parse(torn), path.name)


def logged_ahead(base: sqlite3.Connection) -> None:
    """Write-ahead logging; to begin it SQLite does not wait for another process that begins it too, so this does."""
    until = time.monotonic() + WAIT
    while True:
        try:
            base.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)
