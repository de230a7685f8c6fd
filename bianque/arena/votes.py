"""Where votes are kept, and the dataset repo that they are pushed to."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bianque.arena.battle import Vote, parse, written
from bianque.arena.feedback import FeedbackStore
from bianque.arena.journal import Journal
from bianque.errors import BadInput


class Votes(Journal[Vote]):
    """The votes of a folder: those cast here, and those of its JSONL files; what people say of advice is beside them."""

    kind, columns = "votes", ("battle", "time", "a", "b")
    parse, written = staticmethod(parse), staticmethod(written)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, Path(folder) / "hub")
        self.feedback = FeedbackStore(self.folder / "feedback", self.hub / "feedback")

    def values(self, item: Vote) -> tuple[str, ...]:
        return item.battle, item.time, item.a.name, item.b.name

    def add(self, vote: Vote) -> None:
        """Keep a vote, on disk when this returns; BadInput if its battle has one."""
        if not self.put(vote):
            raise BadInput("这场对战已经投过票，请开始新的一场 (this battle has a vote already: start another)")

    def counts(self) -> Counter[frozenset[str]]:
        """Votes so far of each two players, by name."""
        found: Counter[frozenset[str]] = Counter()
        if self.folder.is_dir():
            with self.opened() as base:
                for a, b, count in base.execute("SELECT a, b, count(*) FROM votes GROUP BY a, b"):
                    found[frozenset((a, b))] += count
        return found


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
                    publisher.votes.feedback.export()
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
