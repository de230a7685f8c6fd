"""Who may meet whom in a blind battle on this machine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from random import Random

from bianque.arena import battle
from bianque.catalog import builtin
from bianque.catalog.card import Model
from bianque.consult import spec
from bianque.consult.session import Session
from bianque.errors import BadInput
from bianque.types import ROLE_PHASES, Phase


@dataclass(frozen=True, slots=True)
class Entrant:
    """Somebody who may be drawn: as a vote names them, as a comparison asks them, and their parts of a consultation."""

    contender: battle.Contender
    who: spec.Contender
    parts: frozenset[Phase]

    @property
    def name(self) -> str:
        return self.contender.name


def entrants(session: Session, runs: Callable[[str], bool]) -> list[Entrant]:
    """Everybody who can answer here, each with their own defaults.

    The page's pair enters as one, as `auto` lets it speak, and each of the two alone; beside them every card that
    `runs` here. A preview enters only where the page itself speaks with one: against real models it is no contest.
    """
    pair = [builtin.find(session.cards, name) for name in (session.ask, session.advise)]
    preview = any(card.preview for card in pair)
    others = (card for card in session.cards.values() if (preview or not card.preview) and runs(card.name))
    cards = {card.name: card for card in (*pair, *others)}
    return [both(*pair), *map(alone, cards.values())]


def both(ask: Model, advise: Model) -> Entrant:
    """The handing over of one model to the other; its name tells the two, so that another pair's votes are not its own."""
    contender = battle.Contender(
        name=f"auto ({ask.name} + {advise.name})",
        revision=f"{ask.revision} + {advise.revision}",
        precision=None,
        sampling={"ask": asdict(ask.sampling), "advise": asdict(advise.sampling)},
    )
    return Entrant(contender, spec.Contender("auto"), ROLE_PHASES["both"])


def alone(card: Model) -> Entrant:
    return Entrant(battle.Contender.of(card, card.sampling), spec.Contender.parse(card.name), ROLE_PHASES[card.role])


def draw(
    there: Iterable[Entrant], votes: Mapping[frozenset[str], int], random: Random, resting: Collection[str] = ()
) -> tuple[Entrant, Entrant]:
    """Two who can do the same part of a consultation, on random sides, those with fewer votes on them more often.

    A blind vote between a question and advice would tell what the visitor came for, not who does it better; who does
    both parts may meet everybody. Whoever is `resting` is drawn only if there is nobody else.
    """
    named = {entrant.name: entrant for entrant in there}
    met = [(one.name, other.name) for one, other in combinations(named.values(), 2) if one.parts & other.parts]
    pairs = [pair for pair in met if not set(pair) & set(resting)] or met
    if not pairs:
        raise BadInput(
            f"对战至少需要两个做同一件事的模型，这里有：{'、'.join(named)} "
            "(a battle needs two models that do the same part of a consultation)"
        )
    weights = [1 / (1 + votes.get(frozenset(pair), 0)) for pair in pairs]
    one, other = battle.pair(random.choices(pairs, weights)[0], votes, random)  # random sides
    return named[one], named[other]
