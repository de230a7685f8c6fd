"""What `/v1` writes: completions, their chunks, and errors in OpenAI's form."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from bianque import __version__
from bianque.api.openai_request import RULE, ChatRequest, InvalidRequest
from bianque.consult.session import Delta, Event, Failure, Notice
from bianque.consult.transcript import Transcript
from bianque.errors import BadInput, Busy, UnknownModel
from bianque.types import Usage

FINGERPRINT = f"bianque-{__version__}"
# Our code → HTTP status, OpenAI's type, and OpenAI's code where it has one.
ERRORS: Mapping[str, tuple[int, str, str | None]] = {
    "BQ_BAD_INPUT": (400, "invalid_request_error", None),
    "BQ_TOO_LONG": (400, "invalid_request_error", "context_length_exceeded"),
    "BQ_UNKNOWN_MODEL": (404, "invalid_request_error", "model_not_found"),
    "BQ_BUSY": (429, "rate_limit_error", None),
    "BQ_NO_MEMORY": (503, "server_error", None),
    "BQ_LOAD_FAILED": (503, "server_error", None),
    "BQ_UNREACHABLE": (502, "server_error", None),
    "BQ_INTERRUPTED": (503, "server_error", None),
}


def encoded(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def data(value: object) -> bytes:
    """A line of a stream of events."""
    return b"data: " + encoded(value) + b"\n\n"


class Json(Response):
    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return encoded(content)


def error_object(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def failure(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers for an error, in its own words if it is one of ours."""
    told = Failure.of(error)
    if isinstance(error, InvalidRequest):
        return 400, error_object(told.text, "invalid_request_error", error.param, told.code), {}
    status, kind, code = ERRORS.get(told.code, (500, "server_error", None))
    param = "model" if isinstance(error, UnknownModel) else "messages" if isinstance(error, BadInput) else None
    headers = {"retry-after": str(error.retry_after)} if isinstance(error, Busy) else {}
    return status, error_object(told.text, kind, param, code or told.code), headers


def failed(error: Exception) -> Json:
    status, body, headers = failure(error)
    return Json(body, status, headers)


@dataclass(slots=True)
class Completion:
    """One reply as it grows, and how it is written down; `id` and time are the same in all of its chunks."""

    asked: ChatRequest
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    found: Transcript = field(default_factory=lambda: Transcript((), ""))
    content: str = ""

    def take(self, event: Event | None) -> str:
        """What the event adds to the content: a red flag stands there too, as it is all that most clients show."""
        self.found.apply(event)
        new = ""
        if isinstance(event, Notice) and event.level != "history":
            new = "\n".join(filter(None, (event.text, event.do))) + RULE
        elif isinstance(event, Delta):
            new = event.text
        self.content += new
        return new

    @property
    def finish(self) -> str:
        return "length" if self.found.done and self.found.done.finish == "length" else "stop"

    @property
    def usage(self) -> Usage:
        return self.found.done.usage if self.found.done else Usage()

    @property
    def extension(self) -> dict[str, Any]:
        """What OpenAI's format has no place for."""
        reply, asked, error = self.found.reply or {}, self.found.asked, self.found.error
        return {
            "phase": reply.get("phase"), "model": reply.get("model"), "notice": asked.get("notice"),
            "handoff": asked.get("handoff"), "ignored": list(self.asked.ignored),
        } | ({"error": {"code": error.code, "message": error.text}} if error else {})  # fmt: skip

    def body(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "id": self.id, "object": kind, "created": self.created, "model": self.asked.model,
            "system_fingerprint": FINGERPRINT, "choices": choices, **more, "bianque": self.extension,
        }  # fmt: skip

    def chunk(self, delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        usage = {"usage": None} if self.asked.include_usage else {}
        return data(self.body("chat.completion.chunk", [choice], **usage))

    def choice(self, index: int) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.content, "refusal": None}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": self.finish}

    def comment(self) -> bytes:
        """How far a model has come; clients skip a line that begins with a colon."""
        progress = self.found.progress
        if progress is None:
            return b": waiting\n\n"
        far = progress.ahead if progress.stage == "queued" else f"{progress.fraction:.0%}"
        return f": {progress.stage} {far}\n\n".encode()


def usage_of(replies: Sequence[Completion]) -> dict[str, int]:
    """The prompt counts once, however many replies it had."""
    prompt, written = replies[0].usage.prompt_tokens, sum(reply.usage.completion_tokens for reply in replies)
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
