"""Where votes are kept: lines of JSON that are only ever appended, and a dataset repo that they are pushed to."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bianque.arena.battle import Problem, Vote, parse, written
from bianque.errors import BadInput

try:
    import fcntl
except ImportError:  # Windows: threads exclude one another there, processes do not
    fcntl = None  # type: ignore[assignment]

_TAIL = 64  # bytes before the place read up to, compared to tell that a file is still the one that was read


@dataclass(slots=True)
class _File:
    """How far a file has been read, and what was in it."""

    seen: tuple[int, ...] = ()
    offset: int = 0
    lines: int = 0
    tail: bytes = b""
    votes: dict[str, Vote] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def more(self, path: Path) -> _File:
        """Read what was appended since; a file that was replaced or did anything but grow is read anew."""
        state = path.stat()
        seen = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
        if seen == self.seen:
            return self
        grown = seen[:2] == self.seen[:2] and seen[2] > self.seen[2]
        with path.open("rb") as opened:
            opened.seek(self.offset - len(self.tail))
            if self.seen and not (opened.read(len(self.tail)) == self.tail and grown):
                return _File().more(path)
            data = opened.read()
        self.seen = seen
        *whole, rest = data.split(b"\n")
        for line in whole:
            self.take(path, line)
            self.lines += 1
        # A beginning of an object is never JSON itself, so what parses is whole and lacks but its line end.
        with suppress(BadInput):
            vote = parse(rest)
            self.votes.setdefault(vote.battle, vote)
            rest = b""
        self.offset += len(data) - len(rest)
        self.tail = (self.tail + data[: len(data) - len(rest)])[-_TAIL:]
        return self

    def take(self, path: Path, line: bytes) -> None:
        try:
            if line.strip():
                vote = parse(line)
                self.votes.setdefault(vote.battle, vote)
        except BadInput as error:
            self.problems.append(Problem(path.name, self.lines + 1, str(error)))


class Votes:
    """The votes in a folder's `*.jsonl`, and in those of `hub/` below it, which other machines wrote.

    Each process appends to a file of its own, unless given its `name`; several may share one. A lock of the folder
    lets one writer in at a time, of all threads and processes.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        self.folder = Path(folder)
        self.hub = self.folder / "hub"
        self.file = self.folder / (name or f"votes-{now}-{os.getpid()}-{secrets.token_hex(4)}.jsonl")
        self.guard: AbstractContextManager[Any] = nullcontext()  # held while writing
        self._files: dict[Path, _File] = {}
        self._lock = threading.Lock()

    def add(self, vote: Vote) -> None:
        """Write a vote, on disk when this returns; BadInput if its battle has one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.guard, self._lock, locked(self.folder / ".lock"):
            self._refresh()
            if any(vote.battle in file.votes for file in self._files.values()):
                raise BadInput("这场对战已经投过票，请开始新的一场 (this battle has a vote already: start another)")
            append(self.file, written(vote))

    def read(self) -> tuple[list[Vote], list[Problem]]:
        """All votes, the oldest first and one a battle, and the lines that are none; a torn last line is left out."""
        with self._lock:
            self._refresh()
            files = [
                self._files[path] for path in sorted(self._files, key=lambda path: (path.parent == self.hub, path))
            ]
            votes: dict[str, Vote] = {}
            for file in files:
                for battle, vote in file.votes.items():
                    votes.setdefault(battle, vote)
            problems = [problem for file in files for problem in file.problems]
        return sorted(votes.values(), key=lambda vote: (vote.time, vote.battle)), problems

    def _refresh(self) -> None:
        known, self._files = self._files, {}
        for path in (*self.folder.glob("*.jsonl"), *self.hub.glob("*.jsonl")):
            with suppress(FileNotFoundError):  # replaced or removed meanwhile
                self._files[path] = known.get(path, _File()).more(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that all processes and threads of this machine respect; the system frees it if one is killed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def append(path: Path, line: bytes) -> None:
    """One write of a whole line, then to the disk; behind a line that was torn, a new one is begun."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if size := os.fstat(descriptor).st_size:
            os.lseek(descriptor, size - 1, os.SEEK_SET)
            if os.read(descriptor, 1) != b"\n":
                line = b"\n" + line
        if (done := os.write(descriptor, line)) < len(line):
            raise OSError(f"{done} of {len(line)} bytes were written: is the disk full?")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if fcntl and not size:  # a new file's name has to reach the disk as well
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


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
                    commit = super().push_to_hub()
                except Exception as error:
                    publisher._failed(error)
                    raise
                publisher._pushed(commit is not None)
                return commit

        scheduler = Pushing(
            repo_id=str(self.repo),
            repo_type="dataset",
            private=True,
            folder_path=self.votes.folder,
            every=self.every,
            allow_patterns="*.jsonl",
            ignore_patterns="hub/*",
            hf_api=api,
        )
        self.votes.guard = scheduler.lock
        return scheduler

    def _failed(self, error: Exception) -> None:
        status = getattr(getattr(error, "response", None), "status_code", "")
        self._state = replace(self._state, error=f"{type(error).__name__} {status}".strip())

    def _pushed(self, something: bool) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._state = replace(self._state, pushed=now if something else self._state.pushed, error=None)
