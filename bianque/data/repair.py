"""Turns of any published set → turns that alternate, the patient first; what is mended on the way has a name.

Every rule stands in RULES: a reader appends its name to `repairs` each time it is applied, and reports count them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableSequence
from typing import Any, Literal, NamedTuple

from bianque.data.dialogues import TEXT, Bilingual, Flaw, kind
from bianque.types import Message, Phase

Side = Literal["patient", "doctor"]
RULES: Mapping[str, Bilingual] = {
    "joined": Bilingual("同一人接连几句，合成一轮", "turns of one speaker in a row are joined by a line break"),
    "led": Bilingual("医生先说的话，略去", "a doctor's turns before the patient's first are left out"),
    "opened": Bilingual("医生先说时，以病情描述开场", "where the doctor speaks first, the patient's description opens"),
    "blank": Bilingual("空白的轮次，略去", "a turn without text is left out"),
    "aside": Bilingual("系统、工具的消息，略去", "messages of a system or a tool are left out"),
    "part": Bilingual("图片等不是文字的部分，略去", "parts of a message that are no text are left out"),
    "renamed": Bilingual("重复的 id，加上编号", "an id that repeats gets a number"),
    "continued": Bilingual("是下一段开头的，并入下一段", "a dialogue that the next one goes on from is part of that"),
}
# How the sets name who speaks; `meddg` and `medical_dialog` write the patient as dis and 0.
SIDES: Mapping[str, Side | None] = {
    **dict.fromkeys(("patient", "user", "human", "病人", "患者", "用户", "问", "dis", "0"), "patient"),
    **dict.fromkeys(
        ("doctor", "assistant", "gpt", "chatgpt", "bot", "model", "医生", "大夫", "心理咨询师", "答", "doc", "1"), "doctor"
    ),
    **dict.fromkeys(("system", "developer", "tool", "function", "function_call", "observation"), None),
}  # fmt: skip


class RawTurn(NamedTuple):
    """One turn as a file has it, before it is checked; `asking` is what its labels say of a doctor's turn."""

    who: Any
    text: Any
    asking: bool | None = None


def spoken(turns: Iterable[RawTurn], at: str, repairs: MutableSequence[str], opening: str = "") -> list[RawTurn]:
    """The turns as they alternate, each with its side and its text; Flaw names the first that cannot be read.

    `at` is the name of the field they stand in; `opening` is what the patient wrote before the dialogue.
    """
    found = list[RawTurn]()
    for place, turn in enumerate(turns):
        side = _side(turn.who, f"{at}[{place}]")
        text = _text(turn.text, f"{at}[{place}]", repairs)
        if side is None or not text:
            repairs.append("aside" if side is None else "blank")
        elif found and found[-1].who == side:
            found[-1] = RawTurn(side, f"{found[-1].text}\n{text}", _either(found[-1].asking, turn.asking))
            repairs.append("joined")
        elif found or side == "patient":
            found.append(RawTurn(side, text, turn.asking))
        elif opening.strip():
            found += [RawTurn("patient", opening.strip()), RawTurn(side, text, turn.asking)]
            repairs.append("opened")
        else:
            repairs.append("led")
    if not found:
        raise Flaw(at, Bilingual("没有病人的话", "holds no patient's turn"), TEXT)
    return found


def _side(who: object, at: str) -> Side | None:
    name = str(who).strip().lower() if isinstance(who, str | int) else ""
    if name not in SIDES:
        what = Bilingual(f"是 {str(who)[:40]!r}，不知是谁在说", f"is {str(who)[:40]!r}: nobody knows who speaks")
        raise Flaw(f"{at}.speaker", what, Bilingual(f"可写 {', '.join(SIDES)}", f"write one of {', '.join(SIDES)}"))
    return SIDES[name]


def _text(value: object, at: str, repairs: MutableSequence[str]) -> str:
    """A turn's text; of a list of parts, as OpenAI's clients write it, the text parts."""
    if isinstance(value, list):
        texts = [part if isinstance(part, str) else part.get("text") for part in value if isinstance(part, str | dict)]
        kept = [text for text in texts if isinstance(text, str)]
        repairs.extend(["part"] * (len(value) - len(kept)))
        value = "\n".join(kept)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Flaw(f"{at}.text", kind(value), TEXT)
    return legible(value, f"{at}.text").strip()


def legible(text: str, at: str) -> str:
    """The text, if every byte of it could be read: what could not is half of a surrogate pair (see `records`)."""
    if text.isascii() or text == text.encode(errors="replace").decode():
        return text
    what = Bilingual("含有读不出的字节", "holds bytes that are no text in the file's encoding")
    raise Flaw(at, what, Bilingual("请删去它们，或换一种编码另存", "remove them, or save the file in another encoding"))


def _either(before: bool | None, now: bool | None) -> bool | None:
    return now if before is None else before or bool(now)


def mended(raw: object, repairs: MutableSequence[str]) -> object:
    """A list of our own turns (`role` and `text`, in DISC-MedLLM's files `content`) as it should be."""
    if not isinstance(raw, list) or not raw or not all(isinstance(turn, dict) for turn in raw):
        return raw
    key = "text" if any("text" in turn for turn in raw) else "content"
    if any({"role", key} - turn.keys() for turn in raw):
        return raw
    asking = {"asking": True, "advising": False}
    given = (RawTurn(turn["role"], turn[key], asking.get(str(turn.get("phase")))) for turn in raw)
    phases = {True: {"phase": "asking"}, False: {"phase": "advising"}, None: {}}
    return [{"role": turn.who, key: turn.text, **phases[turn.asking]} for turn in spoken(given, "turns", repairs)]


def messages(turns: Iterable[RawTurn]) -> tuple[Message, ...]:
    """Checked turns as messages; a doctor's turn that its labels call a question is `asking`."""
    phases: Mapping[bool | None, Phase | None] = {True: "asking", False: "advising", None: None}
    return tuple(
        Message("user", turn.text) if turn.who == "patient" else Message("assistant", turn.text, phases[turn.asking])
        for turn in turns
    )
