"""What one record of each known kind of evaluation file says, as a case: a dialogue and what is known of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from bianque.data.dialogues import Flaw, Said, Turn, kind, text, turns
from bianque.types import Message

ASPECTS = ("proactivity", "accuracy", "helpfulness", "linguistic_quality")  # what a judge scores, 1 to 5


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge said of one whole dialogue: its prompt and raw answer, and a score an aspect if it could be read."""

    scores: dict[str, float] | None
    prompt: str = ""
    answer: str = ""
    error: str | None = None


Kind = Literal[
    "dialogues", "recordings", "bianque-csv", "disc-dialogues", "disc-scores", "cmb-clin", "cmd", "cmid", "references"
]


@dataclass(frozen=True, slots=True)
class Case:
    """One dialogue; its turns alternate and the patient (`user`) begins.

    recorded: the model that gave the doctor's turns; None: a human doctor did, and replies are compared with them
    judged: what a judge said of a recorded dialogue
    reference: a human doctor's turns for a recorded dialogue, from the first one on, as many as are known
    first: the doctor's turns before this one are history and no items
    notes: what else the file says of the dialogue, as `{"department": "儿科"}`
    """

    id: str
    set: str
    messages: tuple[Message, ...]
    recorded: str | None = None
    judged: Judged | None = None
    reference: tuple[str, ...] = ()
    first: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, float] | None:
        return self.judged.scores if self.judged else None

    def items(self) -> Iterator[tuple[int, tuple[Message, ...], str | None]]:
        """Each doctor's turn that is due: its number from 0, the dialogue before it, and the human's words if known.

        A dialogue that ends with the patient has one more item than it has doctor's turns.
        """
        for place in range(2 * self.first + 1, len(self.messages) + 1, 2):
            turn = place // 2
            if self.recorded is not None:
                human = self.reference[turn] if turn < len(self.reference) else None
            else:
                human = self.messages[place].content if place < len(self.messages) else None
            yield turn, self.messages[:place], human


def _messages(found: tuple[Turn, ...]) -> tuple[Message, ...]:
    return tuple(Message("user" if turn.role == "patient" else "assistant", turn.text) for turn in found)


def _dialogue(raw: dict[str, Any], number: int, name: str) -> Case:
    """Our own: `{"id", "source", "turns": [{"role": "patient" | "doctor", "text"}]}`."""
    return Case(text(raw, "id"), text(raw, "source"), _messages(turns(raw)))


def _recording(raw: dict[str, Any], number: int, name: str) -> Case:
    """`{"id", "set", "model", "turns"}`, `gpt4` with a judge's scores or null, `reference` a text or a list of texts."""
    messages = _spoken(_messages(turns(raw)), "turns")
    listed = raw.get("reference")
    given = [] if listed is None else listed if isinstance(listed, list) else [listed]
    known = {f"reference[{i}]": value for i, value in enumerate(given)}
    human = tuple(text(known, key) for key in known)
    scores = None if raw.get("gpt4") is None else Judged(_scores(raw["gpt4"], "gpt4"))
    return Case(text(raw, "id"), text(raw, "set"), messages, text(raw, "model"), scores, human)


def _spoken(messages: tuple[Message, ...], name: str) -> tuple[Message, ...]:
    """The messages, if the recorded model says something in them."""
    if len(messages) < 2:
        wrong = Said("没有医生的话", "holds no doctor's turn")
        raise Flaw(name, wrong, Said("请补上模型的回答", "add what the model replied"))
    return messages


def _scores(raw: object, name: str) -> dict[str, float]:
    """A judge's scores from 1 to 5, an aspect each; an aspect may be missing."""
    if not isinstance(raw, dict) or not set(ASPECTS) & set(raw):
        wrong = Said("没有任何一项评分", "holds no score") if isinstance(raw, dict) else kind(raw)
        raise Flaw(name, wrong, Said(f"请给出 {', '.join(ASPECTS)}，或 null", f"give {', '.join(ASPECTS)}, or null"))
    found = {aspect: raw[aspect] for aspect in ASPECTS if raw.get(aspect) is not None}
    for aspect, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 5:
            wrong = Said(f"是 {value!r}"[:40], f"is {value!r}"[:40])
            raise Flaw(f"{name}.{aspect}", wrong, Said("请给 1 到 5 的数", "give a number from 1 to 5"))
    return {aspect: float(value) for aspect, value in found.items()}


_LABEL = re.compile(r"(?:^|\\n|\n)\s*(病人|患者|医生)[：:]")


def _pair(raw: dict[str, Any], number: int, name: str) -> Case:
    """BianQue-1.0's fine-tuning rows, after upstream `data/cMedialog_example.csv`: one next turn each.

    `input` is the dialogue up to an empty 医生： label, its turns parted by a line feed or, as that file has it, by a
    backslash and an n; `target` is the doctor's reply.
    """
    before, *parts = _LABEL.split(text(raw, "input"))
    spoken = [(label, said.strip()) for label, said in zip(parts[::2], parts[1::2], strict=True)]
    if spoken and spoken[-1][0] == "医生" and not spoken[-1][1]:
        spoken.pop()
    listed = [{"role": "doctor" if label == "医生" else "patient", "text": said} for label, said in spoken]
    if before.strip() or not listed:
        wrong = Said("开头没有“病人：”", "does not begin with the label 病人：")
        raise Flaw("input", wrong, Said("请写成 病人：…\\n医生：", "write it as 病人：…\\n医生："))
    found = turns({"input": listed}, "input")
    if len(found) % 2 == 0:
        wrong = Said("以医生的话结尾", "ends with the doctor's words")
        raise Flaw("input", wrong, Said("请把它放进 target", "move them to target"))
    messages = (*_messages(found), Message("assistant", text(raw, "target").strip()))
    notes = {"type": raw["type"]} if isinstance(raw.get("type"), str) and raw["type"] else {}
    return Case(str(number), name, messages, first=len(found) // 2, notes=notes)


def _notes(raw: object) -> dict[str, str]:
    """The texts of an object, for show."""
    return {k: v for k, v in raw.items() if isinstance(v, str) and v.strip()} if isinstance(raw, dict) else {}


def _disc_dialogue(raw: dict[str, Any], number: int, name: str) -> Case:
    """DISC-MedLLM `eval/dialogues/*.json`: what a model said to a simulated patient; no scores."""
    messages = _spoken(_messages(turns(raw, "conversation", "content")), "conversation")
    notes = _notes(raw.get("dataset_info"))
    return Case(text(raw, "id"), text(raw, "source").lower(), messages, text(raw, "model"), notes=notes)


_TALK = re.compile(r"\[start of conversation\]\s*(.*?)\s*\[end of conversation\]\s*$", re.DOTALL)
_SPEAKER = re.compile(r"(?:^|\n)(patient|doctor): ?")
_SCORE = re.compile(r"(Proactivity|Accuracy|Helpfulness|Linguistic Quality)\s*[:：]\s*(\d+(?:\.\d+)?)")


def _disc_scores(raw: dict[str, Any], number: int, name: str) -> Case:
    """DISC-MedLLM `eval/gpt4_scores/*/*.jsonl`: the judge's prompt, which holds the dialogue, and its raw answer."""
    prompt, answer = text(raw, "prompt"), text(raw, "scores")
    talk = _TALK.search(prompt)
    if not talk:
        wrong = Said("没有 [start of conversation] … [end of conversation]", "holds no [start of conversation] …")
        raise Flaw("prompt", wrong, Said("请给出含对话的完整提示", "give the whole prompt with the dialogue"))
    _, *parts = _SPEAKER.split(talk[1])
    listed = [{"role": role, "text": said.strip()} for role, said in zip(parts[::2], parts[1::2], strict=True)]
    messages = _spoken(_messages(turns({"prompt": listed}, "prompt")), "prompt")
    given = {aspect.lower().replace(" ", "_"): float(value) for aspect, value in _SCORE.findall(answer)}
    judged = Judged(_scores(given, "scores"), prompt, answer)
    return Case(text(raw, "id"), text(raw, "source").lower(), messages, text(raw, "model"), judged)


def _cmb(raw: dict[str, Any], number: int, name: str) -> Case:
    """DISC-MedLLM `eval/samples/CMB-cases.json`: a first question made of a case record; no answer."""
    opening = Message("user", text(raw, "first_question"))
    return Case(text(raw, "id"), "cmb-clin", (opening,), notes={"case": text(raw, "case")})


def _cmd(raw: dict[str, Any], number: int, name: str) -> Case:
    """DISC-MedLLM `eval/samples/cmd_samples.json`: a question and a human's answer, under upstream's misspelt key."""
    messages = (Message("user", text(raw, "question")), Message("assistant", text(raw, "raw_anwser")))
    notes = _notes({key: raw.get(key) for key in ("department", "raw_case")})
    return Case(text(raw, "id"), "cmd", messages, notes=notes)


def _cmid(raw: dict[str, Any], number: int, name: str) -> Case:
    """DISC-MedLLM `eval/samples/cmid_samples.json`: a question with its intent labels; no answer."""
    notes = _notes(raw.get("dataset_info")) | _notes({"cate": raw.get("cate")})
    return Case(text(raw, "id"), "cmid", (Message("user", text(raw, "question")),), notes=notes)


def _reference(raw: dict[str, Any], number: int, name: str) -> Case:
    """`{"id", "set", "reference"}`: an answer without its question."""
    return Case(text(raw, "id"), text(raw, "set"), (), reference=(text(raw, "reference"),))


class Shape(NamedTuple):
    kind: Kind
    keys: frozenset[str]  # a record with all of these is of this kind
    case: Callable[[dict[str, Any], int, str], Case]


SHAPES = (  # the first that fits
    Shape("recordings", frozenset({"turns", "model"}), _recording),
    Shape("dialogues", frozenset({"turns"}), _dialogue),
    Shape("disc-dialogues", frozenset({"conversation", "model"}), _disc_dialogue),
    Shape("disc-scores", frozenset({"prompt", "scores"}), _disc_scores),
    Shape("cmb-clin", frozenset({"case", "first_question"}), _cmb),
    Shape("cmd", frozenset({"question", "raw_anwser"}), _cmd),
    Shape("cmid", frozenset({"question", "cate"}), _cmid),
    Shape("bianque-csv", frozenset({"input", "target"}), _pair),
    Shape("references", frozenset({"id", "reference"}), _reference),
)
