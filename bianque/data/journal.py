"""Paid requests, each made once: a line a request is on disk before the next step builds on it.

A pipeline asks through `Journal.ask` under ids of its own. After a kill the same pipeline runs again from its start:
what is in the journal is answered from there, only the rest is asked. A line that was half written is cut off.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from bianque.backends.base import Backend
from bianque.errors import BadInput, BianQueError, Busy
from bianque.types import Finish, Message, Sampling, Usage

FAILURES = 5  # failed requests in a row after which there is no point in going on
TOKENS = 1.5  # tokens that a character of a prompt may be, at most, where a server has not counted yet


@dataclass(frozen=True, slots=True)
class JournalReply:
    text: str
    usage: Usage = field(default_factory=Usage)
    finish: Finish | None = None


Ask = Callable[[Sequence[Message], Sampling], Awaitable[JournalReply]]


@dataclass(frozen=True, slots=True)
class Speaker:
    """A model that is asked. `prompted`: it is told what it is to be; a consultation model knows. `priced`: by tokens."""

    name: str
    ask: Ask
    sampling: Sampling = field(default_factory=lambda: Sampling(max_new_tokens=2048))
    prompted: bool = True
    priced: bool = True

    @classmethod
    def of(cls, backend: Backend, model: str, sampling: Sampling, remote: bool, name: str = "") -> Speaker:
        """A card of any backend, under its own name if no other is given."""

        async def ask(messages: Sequence[Message], sampling: Sampling) -> JournalReply:
            text, usage, finish = "", Usage(), None
            async with aclosing(backend.stream(model, messages, sampling)) as pieces:
                async for piece in pieces:
                    text += piece.text
                    usage, finish = piece.usage or usage, piece.finish or finish
            return JournalReply(text, usage, finish)

        return cls(name or model, ask, sampling, prompted=remote, priced=remote)


class Stopped(Exception):
    """No further request is made: the budget is spent, or the server does not answer."""


class RequestFailed(Exception):
    """One request failed; the next run tries it again."""


@dataclass(slots=True)
class Costs:
    """What was used, and what it may cost: prices for a million tokens, in whatever money they are given."""

    price_in: float = 0.0
    price_out: float = 0.0
    budget: float | None = None
    spent: float = 0.0
    reserved: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __post_init__(self) -> None:
        if min(self.price_in, self.price_out) < 0:
            raise BadInput(f"价格 (price) {self.price_in}, {self.price_out}: 不能小于 0 (at least 0)")
        if self.budget is not None and (self.budget <= 0 or not (self.price_in or self.price_out)):
            raise BadInput(
                f"--budget {self.budget}: 需要大于 0，并给出 --price-in 与 --price-out "
                "(more than 0, and the prices for a million tokens are needed)"
            )

    def of(self, usage: Usage) -> float:
        return (usage.prompt_tokens * self.price_in + usage.completion_tokens * self.price_out) / 1e6

    def add(self, usage: Usage, priced: bool) -> None:
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens
        self.spent += self.of(usage) if priced else 0.0

    def most(self, messages: Sequence[Message], tokens: int) -> float:
        """What a request costs at most."""
        return self.of(Usage(int(TOKENS * characters(messages)) + 20, tokens))

    def allows(self, more: float) -> bool:
        """Whether a request fits into the budget beside those under way, should each cost the most it can."""
        return self.budget is None or self.spent + self.reserved + more <= self.budget


def characters(messages: Sequence[Message]) -> int:
    return sum(len(message.content) for message in messages)


class RequestJournal:
    """`with Journal(path, question, costs) as journal:`; `question` is what makes answers reusable: kind, models, seed.

    BadInput if the file belongs to another question, Busy if another process writes it.
    """

    def __init__(
        self, path: Path, question: Mapping[str, Any], costs: Costs, at_once: int = 4,
        tell: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.path, self.question, self.costs, self.tell = path, dict(question), costs, tell
        self.lines: dict[str, dict[str, Any]] = {}  # by id; a later one counts
        self.gate, self.returned = asyncio.Semaphore(at_once), asyncio.Event()
        self.asked, self.failed, self.in_a_row, self.under_way = 0, 0, 0, 0
        self.stopped: str | None = None
        self.file: IO[bytes] | None = None

    def __enter__(self) -> RequestJournal:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = open(self.path, "a+b")  # closed by __exit__
        except OSError as error:
            raise BadInput(f"{self.path}: 写不了 (cannot be written): {error.strerror}") from error
        self.alone()
        self.begin()
        return self

    def __exit__(self, *error: object) -> None:
        if self.file:
            self.file.close()

    def alone(self) -> None:
        """Two runs on one file would pay for everything twice."""
        with suppress(ImportError):  # Windows has no fcntl
            import fcntl

            assert self.file
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self.file.close()
                raise Busy(f"{self.path}: 另一个进程正在写 (another process is writing it)") from None

    def begin(self) -> None:
        """Read what is there, without the half line that a kill may have left."""
        assert self.file
        self.file.seek(0)
        content = self.file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self.file.truncate(len(whole))
        found = list(self.parsed(whole))
        if not found:
            self.write({"question": self.question})
        elif found[0].get("question") != self.question:
            before = found[0].get("question") or {}
            differs = [key for key in {**before, **self.question} if before.get(key) != self.question.get(key)]
            raise BadInput(
                f"{self.path}: 是另一次生成的记录，不同之处 (belongs to another run, which differs in): "
                f"{', '.join(differs)}；请换一个 --out，或用原来的选项 (choose another --out, or the same options)"
            )
        for line in found[1:]:
            self.lines[line["id"]] = line
            if "usage" in line:
                self.costs.add(Usage(*line["usage"]), line["priced"])

    def parsed(self, content: bytes) -> Iterator[dict[str, Any]]:
        for number, line in enumerate(content.splitlines(), 1):
            try:
                yield dict(json.loads(line))
            except (ValueError, TypeError):
                raise BadInput(f"{self.path}:{number}: 不是这里写的一行 (not a line of a journal): delete it") from None

    def write(self, line: Mapping[str, Any]) -> None:
        assert self.file
        self.file.write(json.dumps(line, ensure_ascii=False).encode(errors="replace") + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())

    def ids(self, beginning: str) -> list[str]:
        """The ids that were asked, in their order."""
        return [name for name in self.lines if name.startswith(beginning)]

    async def ask(self, name: str, who: Speaker, messages: Sequence[Message], seed: int = 0) -> JournalReply:
        """The answer, asked once. Failed if there is none now, Stopped if no more is asked at all."""
        drawn = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big") >> 1
        sampling = replace(who.sampling, seed=drawn)
        prompt = hashlib.sha256(
            repr((who.name, sampling, [(m.role, m.content) for m in messages])).encode()
        ).hexdigest()[:16]
        known = self.lines.get(name)
        if known and "reply" in known:
            if known["prompt"] == prompt:
                return JournalReply(known["reply"], Usage(*known["usage"]), known["finish"])
            raise BadInput(
                f"{self.path}: {name} 当时的提示不同；请换一个 --out (was asked with another prompt: choose another --out)"
            )
        async with self.gate:
            return await self.request(name, who, messages, sampling, prompt)

    async def request(
        self, name: str, who: Speaker, messages: Sequence[Message], sampling: Sampling, prompt: str
    ) -> JournalReply:
        most = self.costs.most(messages, sampling.max_new_tokens) if who.priced else 0.0
        while not self.stopped and self.under_way and not self.costs.allows(most):
            self.returned.clear()  # those under way may cost less than they could
            await self.returned.wait()
        if not self.stopped and not self.costs.allows(most):
            self.stopped = f"预算 {self.costs.budget:g} 用到 {self.costs.spent:.4f}，下一个请求可能超出 (the next request might exceed the budget)"
        if self.stopped:
            raise Stopped(self.stopped)
        self.costs.reserved += most
        self.under_way += 1
        line = {"id": name, "prompt": prompt, "model": who.name}
        try:
            reply = await who.ask(messages, sampling)
        except BianQueError as error:
            self.failed, self.in_a_row = self.failed + 1, self.in_a_row + 1
            self.keep({**line, "error": str(error), "code": error.code})
            if self.in_a_row >= FAILURES:
                self.stopped = f"接连 {FAILURES} 个请求失败 (failed requests in a row): {error}"
            raise RequestFailed(str(error)) from error
        finally:
            self.costs.reserved -= most
            self.under_way -= 1
            self.returned.set()
        if not reply.usage.completion_tokens:  # a server that does not count
            reply = replace(reply, usage=Usage(characters(messages), len(reply.text)))
        self.asked, self.in_a_row = self.asked + 1, 0
        usage = [reply.usage.prompt_tokens, reply.usage.completion_tokens]
        self.costs.add(reply.usage, who.priced)
        self.keep({**line, "reply": reply.text, "finish": reply.finish, "usage": usage, "priced": who.priced})
        return reply

    def keep(self, line: dict[str, Any]) -> None:
        self.write(line)
        self.lines[line["id"]] = line
        self.tell()
