"""What one record of each published corpus says, as a case; their turns are made to alternate by the rules of `repair`.

The shapes are those of the sets as they are handed out; made-up files of each are in the tests, none of the data is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from bianque.data.dialogues import TEXT, Bilingual, Flaw, kind
from bianque.data.formats import CorpusDialogue, FileFormat
from bianque.data.repair import SIDES, RawTurn, legible, messages, spoken

Row = Mapping[str, Any]
_LABEL = re.compile(r"^\s*(病人|患者|医生)[：:]", re.MULTILINE)
_SPEAKER = re.compile(r"\s*(病人|患者|用户|问|医生|心理咨询师|答)[：:]")
_IDS = ("id", "_id", "dialog_id", "dialogue_id", "conversation_id", "question_id", "ans_id")
_NOTHING = ("", "无", "没有")  # what patients write into a field that they must fill
_NOTES = ("department", "title", "diagnosis", "type", "topic", "class", "passage", "department_name", "url")
# What an IMCS label of a doctor's sentence begins with where it asks: Request-Symptom, 提问-症状.
_ASKS = ("request", "提问", "询问")


def _case(
    row: Row, number: int, name: str, turns: list[RawTurn], repairs: list[str], model: str | None = None
) -> CorpusDialogue:
    """A case with the record's own id, source and notes, where it has them."""
    id_ = next((str(row[key]).strip() for key in _IDS if isinstance(row.get(key), str | int)), "")
    source = row.get("source")
    source = source.strip() if isinstance(source, str) else ""
    notes = {key: row[key].strip() for key in _NOTES if isinstance(row.get(key), str) and row[key].strip()}
    return CorpusDialogue(
        id_ or str(number), source or name, messages(turns), model, notes=notes, repairs=tuple(repairs)
    )  # fmt: skip


# --- lists of turns -----------------------------------------------------------------------------------------------


class TurnsForm(NamedTuple):
    """A kind whose records hold a list of turns: its field, and the keys of who speaks and of what is said."""

    kind: str
    field: str
    who: tuple[str, ...]
    text: tuple[str, ...]
    also: tuple[str, ...] = ()  # further keys of a record
    opening: tuple[str, ...] = ()  # fields of what the patient wrote before
    opens: bool = False  # where that is the first turn, and not only where the doctor speaks first


def _talk(talk: TurnsForm, row: Row, number: int, name: str) -> CorpusDialogue:
    repairs = list[str]()
    listed = row[talk.field]
    if isinstance(listed, dict):  # by columns, as `datasets` writes a sequence
        columns = [value for value in listed.values() if isinstance(value, list)]
        listed = [dict(zip(listed, cells, strict=False)) for cells in zip(*columns, strict=False)]
    if not isinstance(listed, list):
        raise Flaw(talk.field, kind(listed), Bilingual("请写成轮次的列表", "give a list of turns"))
    opening = next((row[key] for key in talk.opening if isinstance(row.get(key), str)), "")
    turns = list(_turns(talk, listed))
    if talk.opens and opening.strip():
        turns.insert(0, RawTurn("patient", legible(opening, talk.opening[0])))
    found = spoken(turns, talk.field, repairs, legible(opening, talk.field))
    return _case(row, number, name, found, repairs)


def _turns(talk: TurnsForm, listed: list[Any]) -> Iterator[RawTurn]:
    for place, turn in enumerate(listed):
        if not isinstance(turn, dict):
            wanted = f"{talk.who[0]}, {talk.text[0]}"
            remedy = Bilingual(f"请写成含 {wanted} 的对象", f"give an object with {wanted}")
            raise Flaw(f"{talk.field}[{place}]", kind(turn), remedy)
        if len(turn) == 2 and not turn.keys() - SIDES.keys():  # {"human": …, "assistant": …}, a round
            yield from (RawTurn(side, text) for side, text in turn.items())
            continue
        who = next((turn[key] for key in talk.who if key in turn), None)
        text = next((turn[key] for key in talk.text if key in turn), None)
        act = turn.get("dialogue_act")
        phase = turn.get("phase")
        asking = act.lower().startswith(_ASKS) if isinstance(act, str) and act.strip() else None
        asking = phase == "asking" if phase in ("asking", "advising") else asking
        yield RawTurn(who, text, asking)


TALKS = (
    TurnsForm("meddialog", "dialogue_turns", ("speaker",), ("utterance",), opening=("description",)),
    TurnsForm("imcs", "dialogue", ("speaker",), ("sentence",), opening=("self-report", "self_report"), opens=True),
    TurnsForm(
        "chip-mdcfnpc", "dialog_info", ("sender",), ("text",)
    ),  # in the file's order: some sentence numbers are wrong
    TurnsForm("meddg", "meddg", ("id",), ("sentence",)),
    TurnsForm("disc-sft", "conversation", ("role",), ("content",)),
    TurnsForm("sharegpt", "conversations", ("from", "role"), ("value", "content")),
    TurnsForm("messages", "messages", ("role", "from"), ("content", "value")),
)


def _utterances(row: Row, number: int, name: str) -> CorpusDialogue:
    """MedDialog as it is processed, `["病人：…", "医生：…"]`; HuatuoGPT's, `{"data": ["问：…", "答：…"]}`."""
    field = "utterances" if "utterances" in row else "data"
    if not isinstance(row[field], list):
        raise Flaw(field, kind(row[field]), Bilingual("请写成列表", "give a list"))
    turns = list[RawTurn]()
    for place, text in enumerate(row[field]):
        label = _SPEAKER.match(text) if isinstance(text, str) else None
        if not label:
            what = Bilingual("开头没有“病人：”或“医生：”", "does not begin with 病人： or 医生：")
            raise Flaw(f"{field}[{place}]", what, TEXT)
        turns.append(RawTurn(label[1], text[label.end() :]))
    repairs = list[str]()
    return _case(row, number, name, spoken(turns, field, repairs), repairs)


def _raw(row: Row, number: int, name: str) -> CorpusDialogue:
    """MedDialog's text by year: lines of labels, what is said behind them or below."""
    _, *parts = _LABEL.split(row["dialogue_text"])
    turns = [RawTurn(label, said) for label, said in zip(parts[::2], parts[1::2], strict=True)]
    if not turns:
        what = Bilingual("没有“病人：”与“医生：”", "holds no line that begins with 病人： or 医生：")
        raise Flaw("Dialogue", what, TEXT)
    repairs = list[str]()
    opening = legible(" ".join(row["description"].split()), "Description")
    return _case(row, number, name, spoken(turns, "Dialogue", repairs, opening), repairs)


def _meddg(row: Row, number: int, name: str) -> CorpusDialogue:
    """MedDG's `gen_*.pk`: the dialogue so far and the doctor's next turn."""
    history = row["history"]
    if not isinstance(history, list):
        raise Flaw("history", kind(history), Bilingual("请写成列表", "give a list"))
    # The last of the history is the patient; from there on they take turns.
    sides = ("patient", "doctor")
    turns = [RawTurn(sides[(len(history) - 1 - place) % 2], text) for place, text in enumerate(history)]
    repairs = list[str]()
    return _case(row, number, name, spoken([*turns, RawTurn("doctor", row["response"])], "history", repairs), repairs)


def _export(row: Row, number: int, name: str) -> list[CorpusDialogue]:
    """What this page writes: a consultation, or a comparison with a column a contender."""
    columns = row["columns"] if isinstance(row.get("columns"), list) else [row]
    talk = TALKS[-1]
    found = list[CorpusDialogue]()
    for place, column in enumerate(columns, 1):
        if not isinstance(column, dict) or not isinstance(column.get("messages"), list):
            raise Flaw(f"columns[{place - 1}].messages", kind(column), Bilingual("请写成列表", "give a list"))
        listed = column["messages"]
        spoke = dict.fromkeys(str(turn["model"]) for turn in listed if isinstance(turn, dict) and turn.get("model"))
        models = "+".join(spoke) or None
        repairs = list[str]()
        turns = spoken(_turns(talk, listed), "messages", repairs)
        found.append(_case({"id": f"{number}-{place}"}, number, name, turns, repairs, models))
    return found


# --- a question and its answer ------------------------------------------------------------------------------------


def _answer(question: str, answer: str, row: Row, number: int, name: str) -> CorpusDialogue:
    """A question and its answer; the rounds before them are in `history`."""
    repairs, turns = list[str](), list[RawTurn]()
    for pair in row["history"] if isinstance(row.get("history"), list) else ():
        if not isinstance(pair, list) or len(pair) != 2:
            raise Flaw("history", kind(pair), Bilingual("请写成 [问, 答]", "write [question, answer]"))
        turns += [RawTurn("patient", pair[0]), RawTurn("doctor", pair[1])]
    turns += [RawTurn("patient", _asked(question, row)), RawTurn("doctor", _filled(row, answer))]
    return _case(row, number, name, spoken(turns, "turns", repairs), repairs)


def _filled(row: Row, key: str) -> str:
    if not isinstance(row.get(key), str) or not row[key].strip():
        raise Flaw(key, kind(row.get(key)), TEXT)
    return legible(row[key], key).strip()


def _asked(question: str, row: Row) -> str:
    """The question; an instruction with its input, a title with what the patient writes below it, each said once."""
    beside = {"instruction": "input", "ask": "title"}.get(question)
    more = row.get(beside) if beside else None
    if not isinstance(more, str) or more.strip() in _NOTHING:
        return _filled(row, question)
    if question == "instruction":
        return f"{_filled(row, question)}\n{more.strip()}"
    title, below = more.strip(), row["ask"].strip() if isinstance(row.get("ask"), str) else ""
    if below in _NOTHING:
        return legible(title, "title")
    return below if title.rstrip("。？?…. ") in below else f"{title}\n{below}"


ANSWERS = (  # kind, the fields of question and answer, and those that a record must have beside them
    ("chinese-medical-dialogue-data", "ask", "answer", ("title",)),
    ("cmedqa2", "question", "content", ("ans_id", "question_id")),  # joined with its question by `corpus`
    ("alpaca", "instruction", "output", ()),
    ("question-answer", "question", "answer", ()),
    ("question-answer", "query", "response", ()),
    ("question-answer", "prompt", "response", ()),
    ("question-answer", "prompt", "completion", ()),
    ("question-answer", "input", "output", ()),  # QingGeng's training file
    ("question-answer", "content", "summary", ()),  # ChatGLM's example of tuning
    ("question-answer", "ask", "answer", ()),
    ("question-answer", "问题", "答案", ()),
)


def _pairs(field: str, row: Row, number: int, name: str) -> list[CorpusDialogue]:
    """Questions on one text. CMB-Clin's are a consultation on the case before them; QingGeng's are each its own."""
    listed = row[field]
    if not isinstance(listed, list) or not listed or not all(isinstance(pair, dict) for pair in listed):
        raise Flaw(field, kind(listed), Bilingual("请写成问答的列表", "give a list of questions and answers"))
    if field == "qa_pairs":
        passage = row.get("指南", row.get("passage", ""))
        more = {"passage": passage} if isinstance(passage, str) else {}
        base = row.get("id", number)
        found = ({**pair, **more, "id": f"{base}-{place}"} for place, pair in enumerate(listed, 1))
        return [_answer("question", "answer", pair, number, name) for pair in found]
    turns = list[RawTurn]()
    for pair in listed:
        turns += [RawTurn("patient", pair.get("question")), RawTurn("doctor", pair.get("answer", pair.get("solution")))]
    turns[0] = RawTurn("patient", [part for part in (row.get("description"), turns[0].text) if isinstance(part, str)])
    repairs = list[str]()
    return [_case(row, number, name, spoken(turns, field, repairs), repairs)]


def _format(
    name: str, keys: tuple[str, ...], case: Callable[[Any, int, str], CorpusDialogue | list[CorpusDialogue]]
) -> FileFormat:
    return FileFormat(name, frozenset(keys), None, case)


FORMATS = (  # the first that fits, behind those of `formats`
    _format("page-export", ("messages", "label"), _export),
    _format("page-export", ("columns", "label"), _export),
    _format("meddialog", ("utterances",), _utterances),
    _format("meddialog", ("dialogue_text",), _raw),
    _format("huatuo", ("id", "data"), _utterances),
    _format("meddg", ("history", "response", "next_sym"), _meddg),
    _format("cmb-qa", ("QA_pairs",), partial(_pairs, "QA_pairs")),
    _format("qinggeng", ("qa_pairs",), partial(_pairs, "qa_pairs")),
    *(_format(talk.kind, (talk.field,), partial(_talk, talk)) for talk in TALKS),
    *(_format(name, (ask, answer, *also), partial(_answer, ask, answer)) for name, ask, answer, also in ANSWERS),
)


def as_object(value: Any) -> Any:
    """A bare list of turns, as MedDialog and MedDG keep a dialogue, under the name of its field."""
    if isinstance(value, list) and value:
        if all(isinstance(turn, str) for turn in value):
            return {"utterances": value}
        if all(isinstance(turn, dict) for turn in value):
            for talk in TALKS:
                if any(key in value[0] for key in talk.who) and any(key in value[0] for key in talk.text):
                    return {talk.field: value}
    return value
