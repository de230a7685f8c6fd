"""A model behind a URL: any OpenAI-compatible server is one more card, and its replies come like those of this machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from bianque.backends.client import Client, Patience, read_key
from bianque.catalog import builtin
from bianque.catalog.card import Endpoint, Model
from bianque.errors import Unreachable
from bianque.types import Dialogue, Finish, Piece, Sampling, Usage


class Thoughts:
    """Takes the reasoning out that some servers leave at the beginning of the text, as `<think>…</think>`."""

    def __init__(self) -> None:
        self.held, self.over = "", False

    def spoken(self, text: str, last: bool = False) -> str:
        """What of the text so far can be shown now."""
        if self.over:
            return text
        self.held = (self.held + text).lstrip()
        if self.held.startswith("<think>"):
            self.over = "</think>" in self.held and bool(self.held.partition("</think>")[2].strip())
            return self.held.partition("</think>")[2].lstrip() if self.over else ""
        self.over = last or not "<think>".startswith(self.held)
        return self.held if self.over else ""


class Remote:
    """A Backend over the cards that have an endpoint."""

    def __init__(
        self, cards: Sequence[Model], env: Mapping[str, str] = os.environ, patience: Patience = Patience()
    ) -> None:
        self.cards = builtin.by_name(cards)
        self.env, self.patience = env, patience
        self.served: dict[str, str] = {}  # by card, what its server last said it served
        self.clients: dict[asyncio.AbstractEventLoop, dict[str, Client]] = {}

    def models(self) -> Sequence[Model]:
        return tuple(self.cards.values())

    def loaded(self, model: str) -> bool:
        return True

    def kernel(self, model: str) -> str | None:
        """The server, and once it has answered the model and build that it says it served."""
        card = builtin.find(self.cards, model)
        return " · ".join(filter(None, (card.host, self.served.get(card.name))))

    def prepare(self, model: str) -> None:
        """Nothing: its server keeps it ready."""

    def client(self, card: Model) -> Client:
        assert card.endpoint, f"{card.name} has no endpoint"
        self.clients = {loop: clients for loop, clients in self.clients.items() if not loop.is_closed()}
        clients = self.clients.setdefault(asyncio.get_running_loop(), {})
        if card.name not in clients:
            clients[card.name] = Client(card.endpoint, read_key(card.endpoint.key_env, self.env), self.patience)
        return clients[card.name]

    async def stream(self, model: str, dialogue: Dialogue, sampling: Sampling) -> AsyncGenerator[Piece, None]:
        card = builtin.find(self.cards, model)
        client, thoughts = self.client(card), Thoughts()
        usage, finish, spoke = Usage(), None, False
        yield Piece(usage=usage)
        assert card.endpoint
        async with aclosing(client.answer(request(card.endpoint, dialogue, sampling))) as chunks:
            async for chunk in chunks:
                usage, finish = chunk.usage or usage, finish or chunk.finish
                self.served[card.name] = chunk.served or self.served.get(card.name, "")
                if text := thoughts.spoken(chunk.text):
                    spoke = True
                    yield Piece(text=text)
        if text := thoughts.spoken("", last=True):
            spoke = True
            yield Piece(text=text)
        check_end(client, finish, spoke)
        yield Piece(finish=finish, usage=usage)


def check_end(client: Client, finish: Finish | None, spoke: bool) -> None:
    """Unreachable unless the answer was whole."""
    if finish == "cancelled":
        raise Unreachable(f"{client.host}: 服务器扣下了这个回答 (the server withheld the reply: content_filter)")
    if spoke and finish is None:
        raise Unreachable(
            f"{client.host}: 回答没有写完就断了，请重试 (the stream ended before the reply did; try again)"
        )
    if not spoke and finish == "length":
        raise Unreachable(
            f"{client.host}: 词数用完时还没有文字，请调高 max_new_tokens (no text within the tokens allowed)"
        )
    if not spoke:
        raise Unreachable(
            f"{client.address}: 回答里没有文字，不像 OpenAI 的格式，请检查地址 (no text in it, or not an OpenAI-compatible "
            "answer; check the URL)"
        )


def request(endpoint: Endpoint, dialogue: Dialogue, sampling: Sampling) -> dict[str, Any]:
    """The body of a request for a streamed reply: the dialogue, what the sampling asks for, and the card's own fields."""
    system = [("system", endpoint.system)] if endpoint.system else []
    turns = [*system, *((message.role, message.content) for message in dialogue)]
    drawn = {
        "temperature": sampling.temperature, "top_p": sampling.top_p if sampling.top_p < 1 else None,
        "seed": sampling.seed, "stop": list(sampling.stop) or None, endpoint.max_tokens_field: sampling.max_new_tokens,
    }  # fmt: skip
    # Half of a surrogate pair, which no request can carry, becomes a question mark.
    said = [{"role": role, "content": content.encode(errors="replace").decode()} for role, content in turns]
    whole = {"model": endpoint.model, "messages": said, "stream": True, "stream_options": {"include_usage": True}}
    return {name: value for name, value in (whole | drawn | dict(endpoint.body)).items() if value is not None}
