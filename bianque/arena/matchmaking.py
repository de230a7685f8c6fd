"""Who may meet whom in a blind battle on this machine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from random import Random

from bianque.arena import battle
from bianque.catalog import builtin
from bianque.catalog.card import Model
from bianque.consult.session import Session
from bianque.consult.spec import ModelSpec
from bianque.errors import BadInput
from bianque.types import MODE_PHASES, ROLE_MODES, ModelRole, Phase


def parts(role: ModelRole) -> frozenset[Phase]:
    """The phases in which a model of a role can speak."""
    return frozenset(phase for mode in ROLE_MODES[role] for phase in MODE_PHASES[mode])


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody who may be drawn: as a vote names them, as a comparison asks them, their parts of a consultation, and
    the model that answers a first message."""

    player: battle.Player
    spec: ModelSpec
    parts: frozenset[Phase]
    opens: str

    @property
    def name(self) -> str:
        return self.player.name


def candidates(session: Session, can_run: Callable[[str], bool]) -> list[Candidate]:
    """Everybody who can answer here, each with their own defaults.

    The page's pair enters as one, as `auto` lets it speak, and each of the two alone; beside them every card that
    `can_run` here. A preview enters only where the page itself speaks with one: against real models it is no contest.
    """
    pair = [builtin.find(session.cards, name) for name in (session.ask, session.advise)]
    preview = any(card.preview for card in pair)
    others = (card for card in session.cards.values() if (preview or not card.preview) and can_run(card.name))
    cards = {card.name: card for card in (*pair, *others)}
    return [both(*pair), *map(alone, cards.values())]


def both(ask: Model, advise: Model) -> Candidate:
    """The handing over of one model to the other; its name tells the two, so that another pair's votes are not its own."""
    player = battle.Player(
        name=f"auto ({ask.name} + {advise.name})",
        revision=f"{ask.revision} + {advise.revision}",
        precision=None,
        sampling={"ask": asdict(ask.sampling), "advise": asdict(advise.sampling)},
    )
    return Candidate(player, ModelSpec("auto"), parts("both"), ask.name)


def alone(card: Model) -> Candidate:
    return Candidate(battle.Player.of(card, card.sampling), ModelSpec.parse(card.name), parts(card.role), card.name)


def draw(
    there: Iterable[Candidate], votes: Mapping[frozenset[str], int], random: Random, cooldown: Collection[str] = ()
) -> tuple[Candidate, Candidate]:
    """Two who can do the same part of a consultation, on random sides, those with fewer votes on them more often.

    A blind vote between a question and advice would tell what the visitor came for, not who does it better; who does
    both parts may meet everybody whose first reply is another model's: two replies of one model are nothing to choose
    between. Whoever is in `cooldown` is drawn only if there is nobody else.
    """
    named = {candidate.name: candidate for candidate in there}
    met = [
        (one.name, other.name)
        for one, other in combinations(named.values(), 2)
        if one.parts & other.parts and one.opens != other.opens
    ]
    pairs = [pair for pair in met if not set(pair) & set(cooldown)] or met
    if not pairs:
        raise BadInput(
            f"对战至少需要两个做同一件事的模型，这里有：{'、'.join(named)} "
            "(a battle needs two models that do the same part of a consultation)"
        )
    weights = [1 / (1 + votes.get(frozenset(pair), 0)) for pair in pairs]
    one, other = random.choices(pairs, weights)[0]
    sides = (one, other) if random.random() < 0.5 else (other, one)
    return named[sides[0]], named[sides[1]]
