"""The one client of OpenAI-compatible servers, for cards and for the judge alike.

httpx without a client library around it: those try again on their own after time-outs, which repeats paid work.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from bianque.catalog.card import Endpoint
from bianque.errors import BianQueError, Busy, SettingsError, TooLong, UnknownModel, Unreachable
from bianque.proxies import is_loopback
from bianque.types import Finish, Usage

LONGEST_PAUSE = 30.0  # seconds that a server may ask us to wait before the next try
QUOTED = 200  # characters of a server's own words in an error
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}  # worth another try, as long as nothing of a reply has come
IDLE = httpx.Limits(keepalive_expiry=2.0)  # before servers close: a request on a dead connection is not sent twice
# What servers say of a prompt that is too long, by code (OpenAI, llama.cpp) or in words (vLLM, others).
LONG = re.compile(r"context_length_exceeded|exceed_context_size|context (length|size|window)|prompt is too long", re.I)
QUOTA = re.compile(r"insufficient_quota|billing|余额", re.I)
REMEDIES = {
    401: "请检查密钥 (check the key)",
    403: "请检查密钥的权限 (check what the key may do)",
    404: "请检查卡片的 url 与 model (check the card's url and model)",
    429: "请稍后再试 (try again later)",
    503: "请稍后再试 (try again later)",
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is waited for, in seconds, and how often it is asked.

    `first` is for the beginning of an answer, `between` for each further part. The pause before the second try is
    doubled before each one after it. `after_silence`: ask again also where the work may be under way.
    """

    connect: float = 10.0
    first: float = 120.0
    between: float = 30.0
    whole: float = 600.0
    tries: int = 3
    pause: float = 1.0
    after_silence: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """One part of an answer: text, how it ended, token counts, and which model and build the server says it served."""

    text: str = ""
    finish: Finish | None = None
    usage: Usage | None = None
    served: str = ""


class Again(Exception):
    """A try failed before anything came: why, and the seconds that the server asks to wait."""

    def __init__(self, error: BianQueError, wait: float | None = None) -> None:
        super().__init__(str(error))
        self.error, self.wait = error, wait


class Client:
    """Asks one endpoint, on one event loop. The key goes into the request's header and nowhere else."""

    def __init__(self, endpoint: Endpoint, key: str | None = None, patience: Patience = Patience()) -> None:
        self.address, self.host, self.patience, self._key = endpoint.address, endpoint.host, patience, key
        self.http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(None, connect=patience.connect), limits=IDLE, follow_redirects=False,
            trust_env=not is_loopback(self.address),
        )  # fmt: skip

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.http.aclose()

    async def answer(self, body: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        """The answer to a request, the last chunk with `finish`. Closing it closes the connection, which ends the work.

        TooLong, UnknownModel, Busy or Unreachable says why there is none, or no more of it.
        """
        for count in range(1, self.patience.tries + 1):
            try:
                async with aclosing(self.attempt(body)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            except Again as failed:
                wait = failed.wait
                if count == self.patience.tries:
                    raise type(failed.error)(f"{failed.error}；请求 {count} 次 (requests: {count})") from None
            pause = min(self.patience.pause * 2 ** (count - 1), LONGEST_PAUSE)
            await asyncio.sleep(pause if wait is None else wait)

    async def attempt(self, body: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        """One request; Again where another may be made."""
        deadline, response, came = time.monotonic() + self.patience.whole, None, False
        try:
            request = self.http.build_request("POST", self.address, json=body)
            response = await asyncio.wait_for(self.http.send(request, stream=True), self.patience.first)
            if not response.is_success:
                await self.refuse(response)
            async with aclosing(objects(self.lines(response, deadline))) as found:
                async for item in found:
                    if item.get("error") or item.get("object") == "error":
                        raise self.failed(None, told(json.dumps(item).encode()))
                    came = True
                    yield read(item)
        except asyncio.TimeoutError:
            seconds = self.patience.between if came else self.patience.first
            seconds = self.patience.whole if time.monotonic() >= deadline else seconds
            silent = Unreachable(f"{self.host}: {seconds:g} 秒内没有回答 (no answer within {seconds:g} s)")
            raise Again(silent) if self.patience.after_silence and not came else silent from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Again(self.broken(error)) from None
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise self.broken(error) from None
        finally:
            if response is not None:
                await response.aclose()

    async def lines(self, response: httpx.Response, deadline: float) -> AsyncGenerator[bytes, None]:
        """Lines of an answer. Not httpx's own: those also end at U+2028, which JSON may hold."""
        rest, seconds = b"", self.patience.first
        async with aclosing(response.aiter_bytes()) as parts:  # type: ignore[type-var]
            while True:
                try:
                    part = await asyncio.wait_for(anext(parts), max(0.0, min(seconds, deadline - time.monotonic())))
                except StopAsyncIteration:
                    break
                seconds = self.patience.between
                *whole, rest = (rest + part).split(b"\n")
                for line in whole:
                    yield line.rstrip(b"\r")
        yield rest

    async def refuse(self, response: httpx.Response) -> None:
        """Raise what an answer without success means."""
        said = b""
        async with aclosing(self.lines(response, time.monotonic() + self.patience.between)) as lines:
            async for line in lines:
                said += line + b" "
                if len(said) > 20 * QUOTED:
                    break
        text = f"{response.reason_phrase}: {told(said)}".strip(": ")
        error = self.failed(response.status_code, text, said.decode(errors="replace"))
        if response.status_code in AGAIN and not QUOTA.search(text):
            raise Again(error, retry_after(response))
        raise error

    def failed(self, status: int | None, text: str, whole: str = "") -> BianQueError:
        """An error that the server gives, in a reply's place (`status`) or in the middle of one."""
        text = self.quoted(text)
        line = f"{self.host}: HTTP {status} {text}" if status else f"{self.host}: {text}"
        if LONG.search(f"{text} {whole}") and status in (None, 400, 413, 422, 500):
            return TooLong(f"{line}；请缩短消息或开始新的对话 (shorten the message or start a new dialogue)")
        kinds: dict[int | None, type[BianQueError]] = {404: UnknownModel, 429: Busy, 503: Busy}
        kind = Unreachable if QUOTA.search(text) else kinds.get(status, Unreachable)
        return kind(f"{line}；{REMEDIES[status]}" if status in REMEDIES else line)

    def broken(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"{self.host}: 连接失败，请检查地址与网络 (the connection failed; check the address and the network): "
            f"{type(error).__name__}"
        )

    def quoted(self, text: str) -> str:
        """The beginning of a server's words, without the key should it repeat it."""
        text = " ".join(text.split())
        return (text.replace(self._key, "***") if self._key else text)[:QUOTED]


async def objects(lines: AsyncGenerator[bytes, None]) -> AsyncGenerator[dict[str, Any], None]:
    """The JSON objects of an answer: a stream's events up to `[DONE]`, or the one of an answer that is no stream."""
    whole: list[bytes] = []
    event, found = b"", False
    async with aclosing(lines):
        async for line in lines:
            field, _, data = line.partition(b":")
            if whole or (not found and line.lstrip()[:1] in (b"{", b"<", b"[")):
                whole.append(line)
            elif field == b"event":
                event = data.strip()
            elif field == b"data":
                if data.strip() == b"[DONE]":
                    return
                found, item = True, parsed(data)
                yield {"error": item} if event == b"error" and "error" not in item else item
    if whole:
        yield parsed(b"\n".join(whole))


def parsed(data: bytes) -> dict[str, Any]:
    """An object; what is none is empty, as it says nothing."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read(item: Mapping[str, Any]) -> Chunk:
    """A chunk of a stream, or a whole answer. Servers leave out, repeat and misplace nearly everything."""
    choices = item.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    whole = isinstance(choice.get("message"), dict)
    content = (choice["message"] if whole else choice.get("delta") or {}).get("content")
    usage, finish = item.get("usage"), choice.get("finish_reason") or ("stop" if whole else None)
    ends: dict[str, Finish] = {"length": "length", "content_filter": "cancelled"}
    return Chunk(
        text=content if isinstance(content, str) else "",
        finish=ends.get(str(finish), "stop") if finish else None,
        usage=Usage(count(usage, "prompt_tokens"), count(usage, "completion_tokens")) if isinstance(usage, dict) else None,
        served=" ".join(str(item[key]) for key in ("model", "system_fingerprint") if item.get(key)),
    )  # fmt: skip


def count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else 0


def told(said: bytes) -> str:
    """What an error's body says: its message and code, or the body itself."""
    text, found = said.decode(errors="replace").strip(), parsed(said)
    error = found.get("error", found)
    if isinstance(error, str):
        return error
    parts = (error.get(name) for name in ("message", "code", "type")) if isinstance(error, dict) else ()
    return " ".join(dict.fromkeys(str(part) for part in parts if part)) or text


def retry_after(response: httpx.Response) -> float | None:
    """Seconds to wait as the server asks (a number or a date), at most LONGEST_PAUSE; None if it does not say."""
    asked = response.headers.get("retry-after", "").strip()
    try:
        seconds = float(asked)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(asked).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), LONGEST_PAUSE) if math.isfinite(seconds) else None


def read_key(name: str | None, env: Mapping[str, str] = os.environ) -> str | None:
    """The key in a variable; None where none is named. SettingsError if it holds none that a header could carry."""
    key = env.get(name, "").strip() if name else None
    if name and not key:
        raise SettingsError(f"{name}: 环境变量里没有密钥 (the variable holds no key: set it, or name none)")
    if key and not (key.isascii() and key.isprintable()):
        raise SettingsError(f"{name}: 密钥只能是一行 ASCII 字符 (the key must be one line of ASCII characters)")
    return key
