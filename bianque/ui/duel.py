"""One visitor's battle: what the server keeps of it, and what the page may show of it before the vote and after."""

from __future__ import annotations

import copy
import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from bianque.arena import battle as arena
from bianque.arena.battle import Battle, Side, Verdict, Vote
from bianque.arena.matchmaking import Entrant
from bianque.consult import transcript
from bianque.consult.session import Done, Event
from bianque.consult.transcript import Turn
from bianque.i18n import say
from bianque.types import Dialogue
from bianque.ui import column, render
from bianque.ui.column import Lane

SIDES: tuple[Side, ...] = get_args(Side)


class Duel:
    """A battle with what has been said in it. It never leaves the server: who fights is a secret until the vote."""

    def __init__(self, entrants: tuple[Entrant, Entrant], message: str) -> None:
        self.entrants = entrants
        self.battle = Battle.begin(entrants[0].contender, entrants[1].contender, arena.guess(message))
        self.finished: tuple[list[Turn], ...] = ([], [])  # rounds that both have replied to
        self.shown: tuple[list[Turn], ...] = ([], [])
        self.kernels: tuple[dict[str, str | None], ...] = ({}, {})  # of each model that was at work on a side
        self.verdict: Verdict | None = None

    def ask(self, message: str, lang: str, kernel: Callable[[str], str | None]) -> list[Lane]:
        """The next message goes to both sides; a round that was stopped is as if it had not been."""
        self.battle = self.battle.asked()
        said = zip(copy.deepcopy(self.finished), self.entrants, strict=True)
        lanes = [Lane(turns, message, entrant.who, lang, kernel) for turns, entrant in said]
        self.shown = tuple(lane.turns for lane in lanes)
        return lanes

    def take(self, place: int, lane: Lane, event: Event, kernel: Callable[[str], str | None]) -> None:
        """Fold one event of a side in; with its last one, that side has replied."""
        lane.take(event)
        if isinstance(event, Done):
            lane.look()  # its figures go into the turns
            self.kernels[place].update((model, kernel(model)) for model in lane.tally.models)
            used = dict.fromkeys(filter(None, self.kernels[place].values()))
            self.battle = self.battle.replied(SIDES[place], " + ".join(used) or None)
            if self.battle.ready:
                self.finished = copy.deepcopy(self.shown)

    def dialogues(self) -> list[Dialogue]:
        return [transcript.messages(turns) for turns in self.finished]

    @property
    def message(self) -> str:
        """What the visitor said last."""
        return next((turn["content"] for turn in reversed(self.shown[0]) if turn["role"] == "user"), "")

    def vote(self, verdict: str, category: str, reasons: Sequence[str], consent: bool) -> Vote:
        """BadInput before both have replied, and for a choice that there is not."""
        battle = replace(self.battle, category=arena.chosen("category", category, arena.CATEGORIES))
        return arena.cast_vote(battle, verdict, dict(zip(SIDES, self.dialogues(), strict=True)), reasons, consent)


def masked(turns: Sequence[Turn], lang: str, status: str = "", growing: bool = False) -> list[dict[str, str]]:
    """A side's messages with nothing that tells who wrote them: no model, no phase, no handing over."""
    ends = {"cancelled": say(lang, "stopped"), "length": say(lang, "cut")}
    shown = []
    for place, turn in enumerate(turns):
        last = growing and place == len(turns) - 1
        end = "" if turn["role"] == "user" or last else ends.get(turn.get("finish") or "", "")
        shown.append({"role": turn["role"], "content": render.escape(turn["content"]) + end})
    if turns and turns[-1]["role"] == "user" and not growing:
        status = say(lang, "stopped")
    if status:
        shown.append({"role": "assistant", "content": f'<span class="bq-status">{html.escape(status)}</span>'})
    return shown


def hidden(lane: Lane, lang: str) -> list[dict[str, str]]:
    """A growing side; of a model on its way it says how far, and not which."""
    status = ""
    if not lane.ended and lane.queued and lane.queued.stage != "queued":
        status = say(lang, "preparing", percent=round(lane.queued.fraction * 100))
    elif not lane.ended and lane.turns[-1]["role"] == "user":
        status = say(lang, "in_line" if lane.queued else "writing")
    return masked(lane.turns, lang, status, growing=not lane.ended)


def talks(duel: Duel | None, lang: str) -> list[list[dict[str, str]]]:
    """Both sides' messages, with who said them once the vote is cast."""
    if duel is None:
        return [[], []]
    show = column.talk if duel.verdict else masked
    return [show(turns, lang) for turns in duel.shown]


def heads(duel: Duel | None) -> list[str]:
    """What stands above each side: its letter, and once the vote is cast who it was and how it computed."""
    if duel is None or duel.verdict is None:
        return [head(side) for side in SIDES]
    sides = (duel.battle.a, duel.battle.b)
    return [head(side, contender) for side, contender in zip(SIDES, sides, strict=True)]


def head(side: Side, contender: arena.Contender | None = None) -> str:
    letter = f"<b>{side.upper()}</b>"
    if contender is None:
        return f'<p class="bq-corner">{letter}</p>'
    revision = "" if set(contender.revision.split(" + ")) == {"main"} else contender.revision
    facts = " · ".join(filter(None, (contender.precision, revision, settings(contender.sampling))))
    return f'<p class="bq-corner">{letter}<b>{html.escape(contender.name)}</b><span>{html.escape(facts)}</span></p>'


def settings(sampling: Mapping[str, Any]) -> str:
    """Temperature and top-p; of a pair, the one's and the other's."""
    if "temperature" in sampling:
        return f"T {sampling['temperature']:g}, top-p {sampling['top_p']:g}"
    return " + ".join(settings(part) for part in sampling.values() if isinstance(part, Mapping))


def told(duel: Duel | None, lang: str) -> list[str]:
    """Each side's figures, once the vote is cast."""
    if duel is None or duel.verdict is None:
        return ["", ""]
    return [column.told(turns, lang) for turns in duel.shown]


def revealed(duel: Duel, lang: str) -> str:
    """The vote in words, and who was who."""
    assert duel.verdict, "nothing is told before the vote"
    a, b = duel.battle.a.name, duel.battle.b.name
    return say(lang, "voted", verdict=say(lang, WORD_OF[duel.verdict]), a=a, b=b)


WORD_OF: dict[Verdict, str] = {"a": "a_better", "b": "b_better", "tie": "tie", "both_bad": "both_bad"}
