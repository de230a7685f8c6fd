"""Whether a question repeats an earlier one in other words: what it wants to know, about which part and sign."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial

from bianque.consult.patterns import asset, pattern, table
from bianque.consult.questions import plain, questions

_re = partial(pattern, "repeats")
_signs = partial(table, "repeats", "signs")
_parts = partial(table, "repeats", "parts")
_slots = partial(table, "repeats", "slots", re.IGNORECASE)


@cache
def _names(key: str) -> frozenset[str]:
    """A list of slots or signs."""
    return frozenset(asset("repeats")[key])


@dataclass(frozen=True, slots=True)
class _Ask:
    """One thing asked: the kind of answer wanted, the body parts and signs it concerns, and other words."""

    slots: frozenset[str]
    parts: frozenset[str]
    signs: frozenset[str]
    rest: str
    state: bool = False  # a general enquiry: 睡眠怎么样, 大便正常吗

    @property
    def empty(self) -> bool:
        return not (self.slots or self.parts or self.signs or len(self.rest) > 1)


def _read(clause: str) -> _Ask:
    clause = re.sub(r"(.{1,2})[不没]\1", r"\1", clause)  # 恶不恶心 is 恶心
    slots = {name for name, words in _slots().items() if words.search(clause)}
    framed = sorted(slots)
    if _signs()["末次"].search(clause):
        return _Ask(frozenset(), frozenset(), frozenset({"末次"}), "")
    for stronger, weaker in asset("repeats")["stronger"]:
        if stronger in slots:
            slots.discard(weaker)
    parts, signs, rest = set(), set(), clause
    for name, words in _signs().items():
        if words.search(clause):
            signs.add(name)
            rest = words.sub("", rest)
    for name, words in _parts().items():  # in what the signs left: 腹泻 is no matter of the belly, 腹痛 is
        if words.search(rest):
            parts.add(name)
            rest = words.sub("", rest)
    for name in framed:
        rest = _slots()[name].sub("", rest)
    slots |= {"exam"} if signs & _names("exams") and "result" not in slots else set()
    slots |= {"medicine"} if signs & _names("drugs") and "allergy" not in slots else set()
    if signs and not _re("any_illness").search(clause):  # 有高血压吗 and 有没有高血压病史 are one question
        slots.discard("history")
    signs |= {"咳"} if "痰" in signs else set()
    rest = re.sub(r"\W|\d", "", _re("frame").sub("", rest))
    return _Ask(frozenset(slots), frozenset(parts), frozenset(signs), rest, bool(_re("state").search(clause)))


def _asked_in(text: str) -> list[_Ask]:
    """The single things a turn asks; a clause that asks nothing lends its words to its neighbour."""
    found: list[_Ask] = []
    for sentence in questions(text) or [text]:
        clauses = [clause for clause in re.split(r"[，,：:]", plain(sentence)) if re.search(r"\w", clause)]
        asking: list[str] = []
        lead = ""
        for clause in clauses:
            if _re("asks_something").search(clause) or pattern("questions", "wh").search(clause):
                own = _read(clause)
                asking.append(clause if own.parts or own.signs else lead + clause)
                lead = ""
            elif asking:
                asking[-1] += clause
            else:
                lead += clause
        found += [ask for ask in map(_read, asking or [lead]) if not ask.empty]
    return found


def _pairs(text: str) -> set[str]:
    return {text[i : i + 2] for i in range(len(text) - 1)} or {text}


def _agree(one: frozenset[str], other: frozenset[str]) -> bool:
    return not one or not other or bool(one & other)


def _same(new: _Ask, old: _Ask) -> bool:
    """Whether `old` has already asked for what `new` asks for."""
    shared = new.slots & old.slots
    if shared & _names("open") and new.slots <= old.slots | {"other"}:
        alike = "trigger" not in new.slots or _alike(new.rest, old.rest)
        return alike and _agree(new.parts, old.parts) and _agree(new.signs, old.signs)
    if shared and new.slots == shared:
        named, before = new.parts | new.signs, old.parts | old.signs
        return shared <= _names("whole") or ((named <= before if named else not before) and _alike(new.rest, old.rest))
    if new.slots or old.slots - {"amount"}:
        return False
    named, before = new.parts | new.signs, old.parts | old.signs
    if named and named == before and ((new.state and old.state) or not new.rest):
        return True
    return named <= before and (not before or bool(named)) and _alike(new.rest, old.rest)


def _alike(new: str, old: str) -> bool:
    """Whether the words outside the tables say nothing new (character pairs, half of them known)."""
    if len(new) < 2:
        return new in old
    pairs = _pairs(new)
    return len(pairs & _pairs(old)) >= len(pairs) / 2


def repeats(text: str, earlier: Iterable[str]) -> bool:
    """True if all that the turn asks was asked, perhaps in other words, in the earlier turns."""
    earlier = list(earlier)
    if any(plain(text).strip() == plain(old).strip() for old in earlier):
        return True
    known = [ask for old in earlier for ask in _asked_in(old)]
    asked = _asked_in(text)
    return bool(asked) and all(any(_same(ask, old) for old in known) for ask in asked)


def answered(text: str, said: Iterable[str]) -> bool:
    """True if all that the turn asks was told by the visitor before it was asked: 胃疼三天了 answers 疼多久了."""
    told = [plain(turn) for turn in said]
    asked = _asked_in(text)
    return bool(asked) and all(any(_answers(ask, turn) for turn in told) for ask in asked)


def _answers(ask: _Ask, told: str) -> bool:
    values = table("repeats", "values")
    if ask.slots:
        return (
            ask.slots <= values.keys() and all(values[slot].search(told) for slot in ask.slots) and _concerns(ask, told)
        )
    if not ask.signs or ask.state or ask.parts or len(ask.rest) > 2:
        return False
    return _tells(ask.signs, told)


def _tells(signs: frozenset[str], told: str) -> bool:
    """Whether all these signs are in the words; phlegm brings its cough along."""
    values = table("repeats", "values")
    named = signs - {"咳"} if "痰" in signs else signs
    return all((values.get(sign) or _signs()[sign]).search(told) for sign in named)


def _concerns(ask: _Ask, told: str) -> bool:
    """Whether the parts and signs that the question names are in the words, too."""
    return all(_parts()[part].search(told) for part in ask.parts) and _tells(ask.signs, told)
