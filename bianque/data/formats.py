"""What one record of each known kind of evaluation file says, as a case: a dialogue and what is known of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from bianque.data.dialogues import Bilingual, Flaw, Record, Shape, Text, Turn, Turns, checked, wrong
from bianque.types import Message

ASPECTS = ("proactivity", "accuracy", "helpfulness", "linguistic_quality")  # what a judge scores, 1 to 5


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge said of one whole dialogue: its prompt and raw answer, and a score an aspect if it could be read."""

    scores: dict[str, float] | None
    prompt: str = ""
    answer: str = ""
    error: str | None = None


Kind = str  # the name of a row of FORMATS, here and in `published`


@dataclass(frozen=True, slots=True)
class CorpusDialogue:
    """One dialogue; its turns alternate and the patient (`user`) begins.

    recorded: the model that gave the doctor's turns; None: a human doctor did, and replies are compared with them
    judged: what a judge said of a recorded dialogue
    reference: a human doctor's turns for a recorded dialogue, from the first one on, as many as are known
    first: the doctor's turns before this one are history and no items
    notes: what else the file says of the dialogue, as `{"department": "儿科"}`
    repairs: the rules of `repair.RULES` that were applied to make the turns alternate, each as often as it was
    """

    id: str
    set: str
    messages: tuple[Message, ...]
    recorded: str | None = None
    judged: Judged | None = None
    reference: tuple[str, ...] = ()
    first: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)
    repairs: tuple[str, ...] = ()

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


def _messages(turns: Sequence[Turn]) -> tuple[Message, ...]:
    return tuple(Message("user" if turn.role == "patient" else "assistant", turn.text) for turn in turns)


def _dialogue(record: Record, number: int, name: str) -> CorpusDialogue:
    """Our own: `{"id", "source", "turns": [{"role": "patient" | "doctor", "text"}]}`."""
    return CorpusDialogue(record.id, record.source, _messages(record.turns))


# --- recordings ---------------------------------------------------------------------------------------------------


def _spoken(turns: list[Turn]) -> list[Turn]:
    """The turns, if the recorded model says something in them."""
    if len(turns) < 2:
        raise wrong(
            Bilingual("没有医生的话", "holds no doctor's turn"),
            Bilingual("请补上模型的回答", "add what the model replied"),
        )
    return turns


Score = Annotated[float, Field(ge=1, le=5)]


class Scores(Shape):
    """A judge's scores from 1 to 5, an aspect each; an aspect may be missing."""

    proactivity: Score | None = None
    accuracy: Score | None = None
    helpfulness: Score | None = None
    linguistic_quality: Score | None = None

    @model_validator(mode="after")
    def some(self) -> Scores:
        if not self.model_fields_set:
            raise wrong(
                Bilingual("没有任何一项评分", "holds no score"),
                Bilingual(f"请给出 {', '.join(ASPECTS)}，或 null", f"give {', '.join(ASPECTS)}, or null"),
            )
        return self

    def given(self) -> dict[str, float]:
        return {aspect: value for aspect, value in self if value is not None}


def _listed(value: object) -> object:
    return [] if value is None else value if isinstance(value, list) else [value]


class Recording(Shape):
    """`gpt4`: a judge's scores or null; `reference`: a text or a list of texts."""

    turns: Annotated[Turns[Turn], AfterValidator(_spoken)]
    reference: Annotated[list[Text], BeforeValidator(_listed)] = Field(default=[])
    gpt4: Scores | None = None
    id: Text
    set: Text
    model: Text


def _recording(record: Recording, number: int, name: str) -> CorpusDialogue:
    judged = Judged(record.gpt4.given()) if record.gpt4 else None
    return CorpusDialogue(
        record.id, record.set, _messages(record.turns), record.model, judged, tuple(record.reference)
    )  # fmt: skip


# --- BianQue's and DISC-MedLLM's own files ------------------------------------------------------------------------

_LABEL = re.compile(r"(?:^|\\n|\n)\s*(病人|患者|医生)[：:]")


def labelled(text: str) -> tuple[str, list[tuple[str, str]]]:
    """What stands before the first 病人： or 医生：, and what each speaker says behind it."""
    before, *parts = _LABEL.split(text)
    return before, [(label, unescaped(said)) for label, said in zip(parts[::2], parts[1::2], strict=True)]


def unescaped(text: str) -> str:
    """BianQue-1.0 writes line breaks and tabs as a backslash and a letter."""
    return text.replace("\\n", "\n").replace("\\t", "\t").strip()


class Pair(Shape):
    input: Text
    target: Text
    type: Any = None


class _Input(Shape):
    turns: Turns[Turn] = Field(alias="input")


def _pair(record: Pair, number: int, name: str) -> CorpusDialogue:
    """BianQue-1.0's fine-tuning rows, after upstream `data/cMedialog_example.csv`: one next turn each.

    `input` is the dialogue up to an empty 医生： label, its turns parted by a line feed or, as that file has it, by a
    backslash and an n; `target` is the doctor's reply.
    """
    before, spoken = labelled(record.input)
    if spoken and spoken[-1][0] == "医生" and not spoken[-1][1]:
        spoken.pop()
    listed = [{"role": "doctor" if label == "医生" else "patient", "text": said} for label, said in spoken]
    if before.strip() or not listed:
        what = Bilingual("开头没有“病人：”", "does not begin with the label 病人：")
        raise Flaw("input", what, Bilingual("请写成 病人：…\\n医生：", "write it as 病人：…\\n医生："))
    found = checked(_Input, {"input": listed}).turns
    if len(found) % 2 == 0:
        what = Bilingual("以医生的话结尾", "ends with the doctor's words")
        raise Flaw("input", what, Bilingual("请把它放进 target", "move them to target"))
    messages = (*_messages(found), Message("assistant", unescaped(record.target)))
    return CorpusDialogue(str(number), name, messages, first=len(found) // 2, notes=_notes({"type": record.type}))


def _notes(raw: object) -> dict[str, str]:
    """The texts of an object, for show."""
    return {k: v for k, v in raw.items() if isinstance(v, str) and v.strip()} if isinstance(raw, dict) else {}


class DiscTurn(Turn):
    text: Text = Field(alias="content")


class DiscDialogue(Shape):
    conversation: Annotated[Turns[DiscTurn], AfterValidator(_spoken)]
    id: Text
    source: Text
    model: Text
    dataset_info: Any = None


def _disc_dialogue(record: DiscDialogue, number: int, name: str) -> CorpusDialogue:
    """DISC-MedLLM `eval/dialogues/*.json`: what a model said to a simulated patient; no scores."""
    messages, notes = _messages(record.conversation), _notes(record.dataset_info)
    return CorpusDialogue(record.id, record.source.lower(), messages, record.model, notes=notes)


_TALK = re.compile(r"\[start of conversation\]\s*(.*?)\s*\[end of conversation\]\s*$", re.DOTALL)
_SPEAKER = re.compile(r"(?:^|\n)(patient|doctor): ?")
_SCORE = re.compile(r"(Proactivity|Accuracy|Helpfulness|Linguistic Quality)\s*[:：]\s*(\d+(?:\.\d+)?)")


class DiscScores(Shape):
    prompt: Text
    scores: Text
    id: Text
    source: Text
    model: Text


class _Prompt(Shape):
    turns: Annotated[Turns[Turn], AfterValidator(_spoken)] = Field(alias="prompt")


def _disc_scores(record: DiscScores, number: int, name: str) -> CorpusDialogue:
    """DISC-MedLLM `eval/gpt4_scores/*/*.jsonl`: the judge's prompt, which holds the dialogue, and its raw answer."""
    talk = _TALK.search(record.prompt)
    if not talk:
        what = Bilingual("没有 [start of conversation] … [end of conversation]", "holds no [start of conversation] …")
        raise Flaw("prompt", what, Bilingual("请给出含对话的完整提示", "give the whole prompt with the dialogue"))
    _, *parts = _SPEAKER.split(talk[1])
    listed = [{"role": role, "text": said.strip()} for role, said in zip(parts[::2], parts[1::2], strict=True)]
    messages = _messages(checked(_Prompt, {"prompt": listed}).turns)
    given = {aspect.lower().replace(" ", "_"): float(value) for aspect, value in _SCORE.findall(record.scores)}
    judged = Judged(checked(Scores, given, "scores").given(), record.prompt, record.scores)
    return CorpusDialogue(record.id, record.source.lower(), messages, record.model, judged)


class Cmb(Shape):
    id: Text
    case: Text
    first_question: Text


def _cmb(record: Cmb, number: int, name: str) -> CorpusDialogue:
    """DISC-MedLLM `eval/samples/CMB-cases.json`: a first question made of a case record; no answer."""
    return CorpusDialogue(record.id, "cmb-clin", (Message("user", record.first_question),), notes={"case": record.case})


class Cmd(Shape):
    id: Text
    question: Text
    raw_anwser: Text  # as upstream spells it
    department: Any = None
    raw_case: Any = None


def _cmd(record: Cmd, number: int, name: str) -> CorpusDialogue:
    """DISC-MedLLM `eval/samples/cmd_samples.json`: a question and a human's answer."""
    messages = (Message("user", record.question), Message("assistant", record.raw_anwser))
    notes = _notes({"department": record.department, "raw_case": record.raw_case})
    return CorpusDialogue(record.id, "cmd", messages, notes=notes)


class Cmid(Shape):
    id: Text
    question: Text
    cate: Any = None
    dataset_info: Any = None


def _cmid(record: Cmid, number: int, name: str) -> CorpusDialogue:
    """DISC-MedLLM `eval/samples/cmid_samples.json`: a question with its intent labels; no answer."""
    notes = _notes(record.dataset_info) | _notes({"cate": record.cate})
    return CorpusDialogue(record.id, "cmid", (Message("user", record.question),), notes=notes)


class Reference(Shape):
    """An answer without its question."""

    id: Text
    set: Text
    reference: Text


def _reference(record: Reference, number: int, name: str) -> CorpusDialogue:
    return CorpusDialogue(record.id, record.set, (), reference=(record.reference,))


class FileFormat(NamedTuple):
    """`case` makes a case, or several, of a checked record, its number, and the file's name."""

    kind: Kind
    keys: frozenset[str]  # a record with all of these is of this kind
    record: type[Shape] | None  # None: `case` checks the object itself
    case: Callable[[Any, int, str], CorpusDialogue | list[CorpusDialogue]]


FORMATS = (  # the first that fits
    FileFormat("recordings", frozenset({"turns", "model"}), Recording, _recording),
    FileFormat("dialogues", frozenset({"turns"}), Record, _dialogue),
    FileFormat("disc-dialogues", frozenset({"conversation", "model"}), DiscDialogue, _disc_dialogue),
    FileFormat("disc-scores", frozenset({"prompt", "scores"}), DiscScores, _disc_scores),
    FileFormat("cmb-clin", frozenset({"case", "first_question"}), Cmb, _cmb),
    FileFormat("cmd", frozenset({"question", "raw_anwser"}), Cmd, _cmd),
    FileFormat("cmid", frozenset({"question", "cate"}), Cmid, _cmid),
    FileFormat("bianque-csv", frozenset({"input", "target"}), Pair, _pair),
    FileFormat("references", frozenset({"id", "reference"}), Reference, _reference),
)
