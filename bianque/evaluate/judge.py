"""A language model as judge: four aspects of a whole dialogue, scored over any OpenAI-compatible endpoint."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bianque.backends.client import Client, Patience, read_key
from bianque.catalog.card import Endpoint, Model, completions
from bianque.data.formats import ASPECTS, Judged
from bianque.errors import BadInput, BianQueError, SettingsError, Unreachable
from bianque.types import Dialogue

_FLAT = re.compile(r"\{[^{}]*\}")

# The aspects as the DISC-MedLLM paper (arXiv 2308.14346) defines them for its multi-turn evaluation.
PROMPT = (Path(__file__).parent / "assets" / "judge.txt").read_text("utf-8").rstrip("\n")


@dataclass(frozen=True, slots=True)
class Judge:
    """Who judges. `key` goes into the request's header and nowhere else; `timeout` is for one request, in seconds.

    `async with judge.client() as client: await judge.score(client, dialogue)`
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    timeout: float = 120.0
    tries: int = 5
    pause: float = 1.0  # seconds before the second try; doubled before each further one

    @classmethod
    def of(cls, url: str, model: str | None, key_env: str | None, env: Mapping[str, str] = os.environ) -> Judge:
        """From the command line's words; `key_env` names the environment variable that holds the key."""
        if not model:
            raise BadInput("--judge-model: 需要评审模型的名称 (the judge's model is needed)")
        try:
            key = read_key(key_env, env)
        except SettingsError as error:
            raise BadInput(f"--judge-key-env {error}") from None
        return cls(endpoint(url), model, key)

    @classmethod
    def of_card(cls, card: Model, env: Mapping[str, str] = os.environ) -> Judge:
        """The model of a card that has an endpoint."""
        assert card.endpoint, f"{card.name} has no endpoint"
        return cls(card.endpoint.address, card.endpoint.model, read_key(card.endpoint.key_env, env))

    def client(self) -> Client:
        # A judgement is cheap and comes out the same: after a silence it is asked for again.
        seconds = self.timeout
        waits = Patience(
            first=seconds, between=seconds, whole=seconds, tries=self.tries, pause=self.pause, after_silence=True
        )
        return Client(Endpoint(self.url, self.model), self.key, waits)

    async def score(self, client: Client, dialogue: Dialogue) -> Judged:
        """One request for the whole dialogue, and a second one if the first answer cannot be read; never raises."""
        text, answer, error = prompt(dialogue), "", ""
        for _ in range(2):
            try:
                answer = await self.ask(client, text)
                return Judged(parse(answer), text, answer)
            except BianQueError as failure:
                return Judged(None, text, answer, str(failure))
            except ValueError as unreadable:
                error = f"读不出分数 (no scores could be read): {unreadable}"
        return Judged(None, text, answer, error)

    async def ask(self, client: Client, text: str) -> str:
        """The answer to a prompt at temperature 0; an error once all tries have failed."""
        body = {"model": self.model, "messages": [{"role": "user", "content": text}], "temperature": 0}
        answer = ""
        async with aclosing(client.answer(body)) as chunks:
            async for chunk in chunks:
                answer += chunk.text
        if not answer:
            raise Unreachable(f"回答里没有文字，请检查地址 (no text in the answer; check the URL): {self.url}")
        return answer


def endpoint(url: str) -> str:
    """The address requests go to; run.json keeps it."""
    try:
        return completions(url)
    except BadInput as error:
        raise BadInput(f"--judge {error}") from None


def prompt(dialogue: Dialogue) -> str:
    names = {"user": "患者", "assistant": "医生"}
    turns = ({"角色": names[turn.role], "内容": turn.content} for turn in dialogue)
    # Half of a surrogate pair, which no request can carry, becomes a question mark.
    lines = "\n".join(json.dumps(turn, ensure_ascii=False) for turn in turns)
    return PROMPT.format(dialogue=lines.encode(errors="replace").decode())


def parse(answer: str) -> dict[str, float]:
    """The scores in a judge's answer, which may reason before it; ValueError says what is missing or out of range."""
    found = [item for item in objects(answer) if set(ASPECTS) & set(item)]
    if not found:
        raise ValueError("没有 JSON 对象 (no JSON object with the aspects)")
    return {aspect: points(found[-1].get(aspect), aspect) for aspect in ASPECTS}


def points(value: Any, aspect: str) -> float:
    if isinstance(value, str) and re.fullmatch(r"\s*\d(\.\d+)?\s*", value, re.ASCII):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 5:
        raise ValueError(f"{aspect}={value!r}，需要 1 到 5 (1 to 5 is needed)")
    return float(value)


def objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text: all of it if it is one, then those without another inside, in order."""
    for written in (text, *_FLAT.findall(text)):
        with suppress(ValueError, RecursionError):
            found = json.loads(written)
            if isinstance(found, dict):
                yield found
