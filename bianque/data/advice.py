"""The advice that the knowledge base gives on what is known."""

from __future__ import annotations

import random

from bianque.data.knowledge import Common, Complaint, Generic, Known, first, sentence


def advice(r: random.Random, entry: Complaint, common: Common, known: Known, x: str, department: str) -> str:
    """The whole advice on what is known: one of four shapes."""
    if rule := entry.danger(known):
        return r.choice(rule.say).replace("{x}", x)
    shape = r.random()
    facts = [entry.slot[key].values[value].fact for key, value in known.items()]
    out = ""
    if facts and shape < 0.75:
        out = r.choice(common.summary).format(facts="、".join(dict.fromkeys(facts)))
    out += sentence(r.choice(first(entry.assess, known).say))
    special = [rule for rule in entry.advice if rule.when and rule.holds(known)]
    general = [rule for rule in entry.advice if not rule.when]
    short = shape >= 0.9
    count = max(0, (2 if short else r.choice((3, 4, 4, 5))) - len(special))
    # by identity: to compare rules takes longer than all the rest
    chosen = {id(rule) for rule in (*special, *r.sample(general, min(count, len(general))))}
    says = [sentence(r.choice(rule.say)) for rule in entry.advice if id(rule) in chosen]
    if short:
        out += "".join(says)
    elif shape < 0.5:
        out += f"\n{r.choice(common.lead)}\n" + "\n".join(f"{i}. {say}" for i, say in enumerate(says, 1)) + "\n"
    else:
        out += (r.choice(common.lead) if r.random() < 0.5 else "") + "".join(says)
    out += referral(r, entry, known, department)
    if r.random() < 0.4:
        out += r.choice(common.bye)
    return out.replace("{x}", x).strip()


def referral(r: random.Random, entry: Complaint, known: Known, department: str) -> str:
    if isinstance(entry, Generic) and r.random() < 0.7:
        return sentence(r.choice(entry.refer).format(department=department))
    return sentence(r.choice(first(entry.doctor, known).say))
