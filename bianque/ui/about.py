"""The About tab: which models, under which licences, and what this is not."""

from __future__ import annotations

from collections.abc import Sequence

from bianque.catalog.card import Model
from bianque.catalog.footprint import sizes
from bianque.i18n import say

ARCHITECTURES = {"t5": "T5", "chatglm": "ChatGLM", "baichuan": "Baichuan"}


def text(cards: Sequence[Model], budget: int, lang: str) -> str:
    """Markdown in the visitor's language; a block a model, which a phone shows as well as a wide window does."""
    cites = (f"- {cite}" for cite in dict.fromkeys(card.citation for card in cards))
    return "\n\n".join([
        f"**{say(lang, 'label')}**  \n{say(lang, 'urgent')}",
        f"## {say(lang, 'how')}",
        say(lang, "how_text", budget=budget),
        say(lang, "privacy"),
        f"## {say(lang, 'models')}",
        "\n".join(block(card, lang) for card in cards),
        f"## {say(lang, 'citation')}",
        "\n".join(cites),
    ])  # fmt: skip


def block(card: Model, lang: str) -> str:
    """Name, what it is and where from, memory, licence: a line each."""
    source = f"[{card.repo}](https://huggingface.co/{card.repo})" if card.repo else say(lang, "bundled")
    licence = say(lang, "licence", licence=card.licence)
    if card.endpoint:
        facts = [say(lang, card.role), card.endpoint.model, f"**{say(lang, 'leaves', host=card.host)}**"]
        return "- " + "  \n  ".join((f"**{card.title}** `{card.name}`", " · ".join(facts), licence))
    facts = [say(lang, card.role), source]
    if found := card.checkpoint:
        kind = ARCHITECTURES.get(found.architecture, found.architecture)
        facts = [facts[0], kind, f"{source} + {found.adapter}" if found.adapter else source]
    bits = "/".join(map(str, card.precisions))
    memory = say(lang, "memory", sizes=sizes(card), bits=bits)
    return "- " + "  \n  ".join((f"**{card.title}** `{card.name}`", " · ".join(facts), memory, licence))
