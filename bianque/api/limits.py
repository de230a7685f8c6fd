"""How much one visitor may ask of the endpoints: requests and tokens a minute, and replies at once."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from gradio.context import LocalContext

from bianque.errors import Busy
from bianque.settings import Settings

# Calls that Gradio runs at a time. Visitors wait in one place, the models' own queue (BIANQUE_MAX_WAITING), which tells
# them how many are before them and refuses at once: so Gradio lets more of them in than that holds.
AT_ONCE = 512
WINDOW = 60.0  # seconds
FORGOTTEN = 8  # visitors of earlier that are looked at for each that comes


@dataclass(slots=True)
class Visitor:
    begun: deque[float] = field(default_factory=deque)  # when each of the last minute's requests came
    written: deque[tuple[float, int]] = field(
        default_factory=deque
    )  # when replies of the last minute ended; their tokens
    streams: int = 0

    def forget(self, since: float) -> None:
        while self.begun and self.begun[0] <= since:
            self.begun.popleft()
        while self.written and self.written[0][0] <= since:
            self.written.popleft()

    @property
    def quiet(self) -> bool:
        return not (self.streams or self.begun or self.written)


class Limits:
    """0 is no limit. Used on one event loop; it keeps addresses, for a minute, and nothing that was said."""

    def __init__(
        self, per_minute: int = 0, at_once: int = 0, clock: Callable[[], float] = time.monotonic, tokens: int = 0
    ) -> None:
        self.per_minute, self.at_once, self.clock, self.tokens = per_minute, at_once, clock, tokens
        self.visitors: OrderedDict[str, Visitor] = OrderedDict()  # who came last is last

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(settings.requests_per_minute, settings.streams, tokens=settings.tokens_per_minute)

    @contextmanager
    def admit(self, replies: int = 1, tokens: Callable[[], int] = int) -> Iterator[None]:
        """Room for so many replies to the request that is being answered; Busy says when to come again.

        `tokens`: how many were written, asked when the replies have ended in whatever way.
        """
        if not (self.per_minute or self.at_once or self.tokens):
            yield
            return
        visitor = self.known(address_of(LocalContext.request.get(None)))
        if self.per_minute and len(visitor.begun) >= self.per_minute:
            wait = self.until(visitor.begun[0])
            raise Refusal(f"每分钟最多 {self.per_minute} 次请求", f"at most {self.per_minute} requests a minute", wait)
        if self.tokens and (sum(count for _, count in visitor.written)) >= self.tokens:
            wait = self.until(visitor.written[0][0])
            raise Refusal(f"每分钟最多写 {self.tokens} 个词元", f"at most {self.tokens} tokens a minute", wait)
        if self.at_once and visitor.streams and visitor.streams + replies > self.at_once:
            raise Refusal(
                f"同时最多 {self.at_once} 个回复", f"at most {self.at_once} replies at once", Busy.retry_after
            )
        visitor.begun.append(self.clock())
        visitor.streams += replies
        try:
            yield
        finally:
            visitor.streams -= replies
            if self.tokens and (count := tokens()):
                visitor.written.append((self.clock(), count))

    def until(self, moment: float) -> int:
        """Seconds until what happened then is a minute ago."""
        return max(1, math.ceil(moment + WINDOW - self.clock()))

    def known(self, address: str) -> Visitor:
        """The visitor at an address, with requests of the last minute; who has been quiet since is forgotten."""
        since = self.clock() - WINDOW
        visitor = self.visitors.setdefault(address, Visitor())
        self.visitors.move_to_end(address)
        visitor.forget(since)
        for other in [*islice(self.visitors, FORGOTTEN)]:
            old = self.visitors[other]
            old.forget(since)
            if old is not visitor and old.quiet:
                del self.visitors[other]
        return visitor


class Refusal(Busy):
    """One visitor has had their share."""

    def __init__(self, chinese: str, english: str, wait: int) -> None:
        super().__init__(f"{chinese}，请 {wait} 秒后再试 ({english}; try again in {wait} s)")
        self.retry_after = wait


def address_of(request: Any) -> str:
    """Who asks: the peer, or behind a proxy (a peer of this network) the last public address that proxies have seen.

    What stands to the left of that in `x-forwarded-for`, the caller may have written. An IPv6 network is one visitor.
    """
    peer = getattr(getattr(request, "client", None), "host", "") or ""
    if public(peer):
        return network(peer)
    seen = [part.strip() for part in (request.headers.get("x-forwarded-for") or "").split(",")] if request else []
    return network(next((part for part in reversed(seen) if public(part)), peer))


def public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def network(address: str) -> str:
    return str(ipaddress.ip_network((address, 64), strict=False)) if ":" in address and public(address) else address
