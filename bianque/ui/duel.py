"""One visitor's battle: what the server keeps of it, and what the page may show of it before the vote and after."""

from __future__ import annotations

import copy
import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, get_args

from bianque.arena import battle as arena
from bianque.arena.battle import Battle, Player, Side, Verdict, Vote
from bianque.arena.matchmaking import Candidate
from bianque.consult import transcript
from bianque.consult.session import Done, Event
from bianque.consult.transcript import Transcript, Turn
from bianque.i18n import say
from bianque.types import Dialogue
from bianque.ui import column, render

SIDES: tuple[Side, ...] = get_args(Side)


class Duel:
    """A battle with what has been said in it. It never leaves the server: who fights is a secret until the vote."""

    def __init__(self, candidates: tuple[Candidate, Candidate], message: str) -> None:
        self.candidates = candidates
        self.battle = Battle.begin(candidates[0].player, candidates[1].player, arena.guess(message))
        self.finished: tuple[list[Turn], ...] = ([], [])  # rounds that both have replied to
        self.shown: tuple[list[Turn], ...] = ([], [])
        self.kernels: tuple[dict[str, str | None], ...] = ({}, {})  # of each model that was at work on a side
        self.verdict: Verdict | None = None

    def ask(self, message: str, kernel: Callable[[str], str | None]) -> list[Transcript]:
        """The next message goes to both sides; a round that was stopped is as if it had not been."""
        self.battle = self.battle.asked()
        said = zip(copy.deepcopy(self.finished), self.candidates, strict=True)
        sides = [
            Transcript(turns, message, kernel, apart=True, contender=candidate.spec.label) for turns, candidate in said
        ]
        self.shown = tuple(side.turns for side in sides)
        return sides

    def apply(self, place: int, side: Transcript, event: Event) -> None:
        """An event of a side; with its last one, that side has replied."""
        side.apply(event)
        if isinstance(event, Done):
            if side.reply:
                side.reply["figures"] = asdict(side.stats())
            self.kernels[place].update((model, side.kernel_of(model)) for model in side.models)
            used = dict.fromkeys(filter(None, self.kernels[place].values()))
            self.battle = self.battle.replied(SIDES[place], " + ".join(used) or None)
            if self.battle.ready:
                self.finished = copy.deepcopy(self.shown)

    def dialogues(self) -> list[Dialogue]:
        return [transcript.messages(turns) for turns in self.finished]

    @property
    def models(self) -> dict[Side, list[str | None]]:
        """Who wrote the replies of each side."""
        return {
            side: [turn.get("model") for turn in turns if turn["role"] == "assistant"]
            for side, turns in zip(SIDES, self.finished, strict=True)
        }

    @property
    def can_vote(self) -> bool:
        """Whether both have replied, and not all with the same model."""
        return self.battle.ready and not self.verdict and arena.differ(self.models)

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


def hidden(side: Transcript, lang: str) -> list[dict[str, str]]:
    """A growing side; of a model on its way it says how far, and not which."""
    status = ""
    if side.progress and side.progress.stage != "queued":
        status = say(lang, "preparing", percent=round(side.progress.fraction * 100))
    elif not side.ended and not side.reply:
        status = say(lang, "in_line" if side.progress else "writing")
    return masked(side.turns, lang, status, growing=not side.ended)


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
    return [head(side, player) for side, player in zip(SIDES, sides, strict=True)]


def head(side: Side, player: Player | None = None) -> str:
    letter = f"<b>{side.upper()}</b>"
    if player is None:
        return f'<p class="bq-corner">{letter}</p>'
    revision = "" if set(player.revision.split(" + ")) == {"main"} else player.revision
    facts = " · ".join(filter(None, (player.precision, revision, settings(player.sampling))))
    return f'<p class="bq-corner">{letter}<b>{html.escape(player.name)}</b><span>{html.escape(facts)}</span></p>'


def settings(sampling: Mapping[str, Any]) -> str:
    """Temperature and top-p; of a pair, the one's and the other's."""
    if "temperature" in sampling:
        return f"T {sampling['temperature']:g}, top-p {sampling['top_p']:g}"
    return " + ".join(settings(part) for part in sampling.values() if isinstance(part, Mapping))


def side_figures(duel: Duel | None, lang: str) -> list[str]:
    """Each side's figures, once the vote is cast."""
    if duel is None or duel.verdict is None:
        return ["", ""]
    return [column.figures_html(turns, lang) for turns in duel.shown]


def revealed(duel: Duel, lang: str) -> str:
    """The vote in words, who was who, and whose replies were compared."""
    assert duel.verdict, "nothing is told before the vote"
    a, b = duel.battle.a.name, duel.battle.b.name
    wrote = {side: " → ".join(dict.fromkeys(filter(None, models))) for side, models in duel.models.items()}
    told = say(lang, "voted", verdict=say(lang, WORD_OF[duel.verdict]), a=a, b=b)
    return f"{told} {say(lang, 'compared', **wrote)}"


WORD_OF: dict[Verdict, str] = {"a": "a_better", "b": "b_better", "tie": "tie", "both_bad": "both_bad"}
