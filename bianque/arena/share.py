"""A comparison to take along: its link, and its replies as JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import cast
from urllib.parse import parse_qs, quote

from bianque.arena.side_by_side import FEWEST, LETTERS, MOST
from bianque.catalog.card import Model
from bianque.consult import transcript
from bianque.consult.session import MAX_CHARACTERS
from bianque.consult.spec import ModelSpec, sampling_value
from bianque.consult.text import LABEL
from bianque.consult.transcript import Turn
from bianque.errors import BadInput

VERSION = "1"  # of a link


@dataclass(frozen=True, slots=True)
class Setup:
    """What a comparison is made of: who answers, the seed of all, and the message it begins with."""

    contenders: tuple[ModelSpec, ...]
    message: str = ""
    seed: int | None = None

    def encode(self) -> str:
        """`?compare=1;auto;bianque-2@8:temperature=0.7&seed=7#say=…`, to be put behind the page's address.

        What somebody says of their health stands behind #, which no browser sends to a server.
        """
        named = quote(";".join([VERSION, *(contender.label for contender in self.contenders)]), safe=";:,=@")
        seed = "" if self.seed is None else f"&seed={self.seed}"
        said = f"#say={quote(self.message, safe='', errors='replace')}" if self.message else ""
        return f"?compare={named}{seed}{said}"

    @classmethod
    def decode(cls, link: str) -> Setup | None:
        """From the end of an address, the message before or behind #; None if that speaks of no comparison."""
        try:
            given = parse_qs(link.lstrip("?#").replace("#", "&"), keep_blank_values=True, max_num_fields=50)
        except ValueError:
            raise BadInput("链接的参数太多 (the link has too many parameters)") from None
        if "compare" not in given:
            return None
        version, *named = given["compare"][0].split(";")
        if version != VERSION:
            raise BadInput(
                f"compare={version[:20]!r}: 这个链接的版本未知，这里是 {VERSION}，请重新生成链接 (unknown version of a link)"
            )
        if not FEWEST <= len(named) <= MOST:
            raise BadInput(f"compare: {len(named)} 列，需要 {FEWEST} 到 {MOST} 列 (a link names {FEWEST} to {MOST})")
        seed, message = (given.get(name, [""])[0] for name in ("seed", "say"))
        if len(message) > MAX_CHARACTERS:
            raise BadInput(f"say: {len(message)} 个字符，最多 {MAX_CHARACTERS} 个 (the message is too long)")
        return cls(
            tuple(map(ModelSpec.parse, named)), message, cast(int, sampling_value("seed", seed)) if seed else None
        )


def comparison_licences(columns: Sequence[Sequence[Turn]], cards: Mapping[str, Model]) -> dict[str, str]:
    """The licence of every model that spoke in any column."""
    return transcript.licences(chain.from_iterable(columns), cards)


def comparison_json(setup: Setup, columns: Sequence[Sequence[Turn]], cards: Mapping[str, Model]) -> str:
    named = zip(setup.contenders, columns, strict=False)
    whole = {
        "label": LABEL,
        "link": setup.encode(),
        "seed": setup.seed,
        "licences": comparison_licences(columns, cards),
        "columns": [{"contender": contender.label, "messages": list(turns)} for contender, turns in named],
    }
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def comparison_markdown(setup: Setup, columns: Sequence[Sequence[Turn]], cards: Mapping[str, Model]) -> str:
    lines = [*transcript.header("扁鹊 BianQue · 对比"), f"`{setup.encode()}`", ""]
    for letter, contender, turns in zip(LETTERS, setup.contenders, columns, strict=False):
        lines += [f"## {letter} · {contender.label}", ""]
        lines += [line for turn in turns for line in transcript.turn_lines(turn)]
    lines += [f"- {name}: {licence}" for name, licence in comparison_licences(columns, cards).items()]
    return "\n".join(lines) + "\n"
