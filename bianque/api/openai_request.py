"""What an OpenAI client asks of `/v1/chat/completions`, read into what a session takes.

Every field is used, refused because it would change what the reply means, or named among `ignored`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from bianque.api.schemas import as_int, check_count
from bianque.consult.spec import RANGES, SamplingOverrides
from bianque.consult.text import clean
from bianque.errors import BadInput
from bianque.types import LONGEST_REPLY, Message

MOST_CHOICES = 8  # rows of one request
MOST_STOPS = 4
LONGEST_NAME = 200  # characters
SEEDS = 2**63
USED = {
    "model", "messages", "temperature", "top_p", "max_completion_tokens", "max_tokens", "seed", "stop", "n", "stream",
    "stream_options",
}  # fmt: skip
# Fields that would change what the reply means, and which of their values do.
REFUSED: Mapping[str, Callable[[Any], bool]] = {
    "tool_choice": lambda value: value == "required" or isinstance(value, dict),
    "function_call": lambda value: isinstance(value, dict),
    "response_format": lambda value: not isinstance(value, dict) or value.get("type") != "text",
    "logprobs": bool,
    "top_logprobs": bool,
    "audio": bool,
    "modalities": lambda value: value != ["text"],
    "presence_penalty": lambda value: value != 0,
    "frequency_penalty": lambda value: value != 0,
    "logit_bias": bool,
}
# Clients show only a reply's content: a notice stands there first, and this line ends it.
RULE = "\n\n———\n\n"
NOTICES = re.compile(r"\A.*\n\n———(?:\n\n|\s*\Z)", re.DOTALL)


class InvalidRequest(BadInput):
    """`param` is the field that is not what it may be."""

    def __init__(self, text: str, param: str | None, code: str = BadInput.code) -> None:
        super().__init__(text)
        self.param, self.code = param, code


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request. `history` begins with the visitor and alternates; `message` is the newest turn."""

    model: str  # auto, ask, advise, or a card's name
    history: tuple[Message, ...]
    message: str
    drawn: SamplingOverrides
    stop: tuple[str, ...]
    n: int
    stream: bool
    include_usage: bool
    ignored: tuple[str, ...]  # fields and roles that were not used

    def seeded(self, place: int) -> SamplingOverrides:
        """The sampling of the choice at a place: its own seed, the place further."""
        seed = self.drawn.seed
        return self.drawn if seed is None else replace(self.drawn, seed=(seed + place) % SEEDS)


def parse(body: object) -> ChatRequest:
    """The request in a JSON body; Refused names the field, what is there and what is needed."""
    if not isinstance(body, dict):
        raise InvalidRequest("请求的正文需要是 JSON 对象 (the body must be a JSON object)", None)
    for name, changes in REFUSED.items():
        if body.get(name) is not None and changes(body[name]):
            raise InvalidRequest(
                f"{name}={shown(body[name])}: 这里不支持，请去掉 (not supported here: leave it out)",
                name, "unsupported_parameter",
            )  # fmt: skip
    turns, roles = dialogue(body.get("messages"))
    stream, n = flag(body, "stream"), whole(body, "n", 1, MOST_CHOICES) or 1
    if stream and n > 1:
        raise InvalidRequest(f"n={n}: 流式时只能是 1 (must be 1 with stream)", "n", "unsupported_parameter")
    others = [name for name, value in body.items() if value is not None and name not in USED and name not in REFUSED]
    return ChatRequest(
        model=model(body), history=tuple(turns[:-1]), message=turns[-1].content, drawn=sampling(body),
        stop=stops(body.get("stop")), n=n, stream=stream, include_usage=stream and usage_wanted(body),
        ignored=(*roles, *(name[:80] for name in others[:40])),
    )  # fmt: skip


def model(body: Mapping[str, Any]) -> str:
    name = body.get("model")
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
        raise InvalidRequest(f"model={shown(name)}: 需要模型的名称，如 auto (a model's name is needed)", "model")
    return clean(name)


def dialogue(messages: object) -> tuple[list[Message], list[str]]:
    """The turns, and the roles that were left out.

    These models have no turn for a system text; turns of one speaker are joined, and a greeting of the assistant's
    before the visitor's first message is dropped.
    """
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("messages: 需要非空的列表 (a list with at least one message is needed)", "messages")
    check_count("messages", messages)
    turns: list[tuple[str, list[str]]] = []
    left_out: list[str] = []
    for place, item in enumerate(messages):
        where = f"messages[{place}]"
        role = item.get("role") if isinstance(item, dict) else None
        if role in ("system", "developer"):
            left_out.append(role)
            continue
        if role not in ("user", "assistant"):
            raise InvalidRequest(
                f"{where}.role={shown(role)}: 可选 (choose one of) user, assistant, system, developer", f"{where}.role"
            )
        content = text(item.get("content"), f"{where}.content")
        content = NOTICES.sub("", content) if role == "assistant" else content
        if not content.strip() and place < len(messages) - 1:
            continue
        if turns and turns[-1][0] == role:
            turns[-1][1].append(content)
        elif turns or role == "user":
            turns.append((role, [content]))
    if not turns or turns[-1][0] != "user":
        raise InvalidRequest("messages: 最后一条需要是 user 的 (the last message must be the user's)", "messages")
    speaker = lambda role: cast(Literal["user", "assistant"], role)
    return [Message(speaker(role), "\n".join(parts)) for role, parts in turns], list(dict.fromkeys(left_out))


def text(content: object, where: str) -> str:
    """A message's content as one text: a string, null, or a list of text parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return clean(content)
    if not isinstance(content, list):
        raise InvalidRequest(
            f"{where}={shown(content)}: 需要字符串或 text 段的列表 (a string or a list of text parts)", where
        )
    for place, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else part
        if kind != "text" or not isinstance(part, dict):
            raise InvalidRequest(
                f"{where}[{place}].type={shown(kind)}: 只接受 text (only text is read here)", f"{where}[{place}].type"
            )
        if not isinstance(part.get("text"), str):
            raise InvalidRequest(
                f"{where}[{place}].text={shown(part.get('text'))}: 需要字符串 (a string is needed)",
                f"{where}[{place}].text",
            )
    return clean("\n".join(part["text"] for part in content))


def sampling(body: Mapping[str, Any]) -> SamplingOverrides:
    top_p = number(body, "top_p", 0, RANGES["top_p"].most)
    limit = "max_tokens" if body.get("max_completion_tokens") is None else "max_completion_tokens"
    most, seed = whole(body, limit, 1), whole(body, "seed", -SEEDS, 2 * SEEDS - 1)
    return SamplingOverrides(
        temperature=number(body, "temperature", RANGES["temperature"].least, RANGES["temperature"].most),
        top_p=None if top_p is None else max(top_p, RANGES["top_p"].least),
        max_new_tokens=None if most is None else min(most, LONGEST_REPLY),  # clients send large defaults
        seed=None if seed is None else seed % SEEDS,
    )


def number(body: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise InvalidRequest(
            f"{name}={shown(value)}: 需要 {least} 到 {most} 之间的数 (a number from {least} to {most})", name
        )
    return value


def whole(body: Mapping[str, Any], name: str, least: int, most: int | None = None) -> int | None:
    value = as_int(body.get(name))
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        until = "" if most is None else f"，至多 (at most) {most}"
        raise InvalidRequest(f"{name}={shown(value)}: 需要整数，至少 (a whole number, at least) {least}{until}", name)
    return value


def flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest(f"{name}={shown(value)}: 需要 true 或 false (true or false is needed)", name)
    return bool(value)


def stops(value: object) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(given, list) or len(given) > MOST_STOPS or not all(isinstance(stop, str) for stop in given):
        raise InvalidRequest(
            f"stop={shown(value)}: 需要字符串，或至多 {MOST_STOPS} 个字符串 (a string or up to {MOST_STOPS})", "stop"
        )
    return tuple(filter(None, map(clean, given)))


def usage_wanted(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise InvalidRequest(f"stream_options={shown(options)}: 需要对象 (an object is needed)", "stream_options")
    return flag(options, "include_usage")


def shown(value: object) -> str:
    """A value as an error names it."""
    return repr(value)[:80]
