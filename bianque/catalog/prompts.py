"""Prompt formats, one pure function each, and what turns a model's raw reply back into text.

A visitor's words can close no turn and open none: whatever is rendered goes through `neutralise` first.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from bianque.errors import TooLong
from bianque.types import Dialogue, Message

LABELS = "病人|患者|医生|用户|心理咨询师"
# Also a colon that begins a line: the word may stand at the end of the line before.
LABEL = re.compile(rf"({LABELS})[^\S\n]*[:：]|(?m:^)[^\S\n]*(问|答|)[^\S\n]*[:：]")
SPECIAL = re.compile(r"<(/?\w{1,14}|\|[^<>|\n]{1,14}\|)>|\[([gs]?MASK|Round \d+)\]", re.IGNORECASE)
# The reply is over where the model goes on to speak for the patient. In rounds that is the next number: a line that
# begins with 问： may be a reply's own.
SELF_CONTINUED = re.compile(r"(?:\n|\\n)\s*(?:(?:病人|患者|用户)\s*[:：]|\[Round \d+\])")
ECHO = re.compile(r"^\s*(?:医生|心理咨询师|答)\s*[:：]\s*")


def neutralise(text: str) -> str:
    """Text in which nothing reads as a role label, a special token, an escape or a control character."""
    text = text.replace("\r\n", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    kept = (c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Co", "Cs"))
    text = defused("".join(kept))
    # A tokenizer may normalise: a line in which that would bring forth a label or a token is defused as it would read.
    lines = ((line, unicodedata.normalize("NFKC", line)) for line in text.split("\n"))
    return "\n".join(line if defused(folded) == folded else defused(folded) for line, folded in lines).strip()


def defused(text: str) -> str:
    """Labels, special tokens and escapes replaced by characters that NFKC does not turn back."""
    text = re.sub(r"\\(?=[ntr])", "/", text)
    found = 1
    while found:  # a token may stand inside another
        text, found = SPECIAL.subn(lambda m: f"‹{m[1]}›" if m[1] else f"〔{m[2]}〕", text)
    return LABEL.sub(lambda m: f"{m[1] or m[2]}，", text)


def labelled(dialogue: Dialogue, patient: str, doctor: str) -> str:
    label = {"user": patient, "assistant": doctor}
    lines = [f"{label[turn.role]}：{neutralise(turn.content)}" for turn in dialogue]
    return "\n".join([*lines, f"{doctor}："])


def bianque_2(dialogue: Dialogue) -> str:
    """病人/医生 lines (scutcyr/BianQue-2 model card)."""
    return labelled(dialogue, "病人", "医生")


def bianque_1(dialogue: Dialogue) -> str:
    r"""The same, newline and tab as two literal characters each (scutcyr/BianQue-1.0 model card, `preprocess`)."""
    return t5_escape(bianque_2(dialogue))


def soulchat(dialogue: Dialogue) -> str:
    """用户/心理咨询师 lines (scutcyr/SoulChat soulchat_app.py, `answer`)."""
    return labelled(dialogue, "用户", "心理咨询师")


def chatglm_rounds(dialogue: Dialogue) -> str:
    """Numbered rounds from 0; a lone query as it is (THUDM/chatglm-6b modeling_chatglm.py, `chat`)."""
    if len(dialogue) == 1:
        return neutralise(dialogue[0].content)
    number, lines = 0, []
    for turn in dialogue:
        if turn.role == "user":
            lines.append(f"[Round {number}]")
            number += 1
        lines.append(f"{'问' if turn.role == 'user' else '答'}：{neutralise(turn.content)}")
    return "\n".join([*lines, "答："])


def t5_escape(text: str) -> str:
    return text.replace("\n", "\\n").replace("\t", "\\t")


USER, ASSISTANT, END = "<reserved_102>", "<reserved_103>", "</s>"


def baichuan(dialogue: Dialogue) -> str:
    """A reserved token before each turn (baichuan-inc/Baichuan-13B-Chat modeling_baichuan.py, `build_chat_input`)."""
    return marked(dialogue, "")


def baichuan_older(dialogue: Dialogue) -> str:
    """The same, each past reply closed by the end token (that repository's first revision, f5f47be).

    DISC-MedLLM was trained on dialogues laid out like this (FudanDISC/DISC-MedLLM train/component/dataset.py).
    """
    return marked(dialogue, END)


def marked(dialogue: Dialogue, end: str) -> str:
    rendered = {"user": (USER, ""), "assistant": (ASSISTANT, end)}
    turns = ((*rendered[turn.role], neutralise(turn.content)) for turn in dialogue)
    return "".join(f"{before}{text}{after}" for before, after, text in turns) + ASSISTANT


def plain_reply(raw: str) -> str:
    """What a reply of any of these models is without an echoed label and without the patient's next words."""
    return ECHO.sub("", SELF_CONTINUED.split(raw, maxsplit=1)[0]).strip()


def t5_reply(raw: str) -> str:
    r"""Undo `bianque_1`'s escapes (model card, `postprocess`)."""
    return plain_reply(raw.replace("\\n", "\n").replace("\\t", "\t"))


HAN = "\u4e00-\u9fff"
FULL_WIDTH = {",": "，", "!": "！", ":": "：", ";": "；", "?": "？"}
BESIDE_HAN = re.compile(rf"(?<=[{HAN}])[,!:;?]|[,!:;?](?=[{HAN}])")


def chatglm_reply(raw: str) -> str:
    """ChatGLM's own clean-up: punctuation beside Han becomes full-width (upstream `process_response`)."""
    return BESIDE_HAN.sub(lambda mark: FULL_WIDTH[mark[0]], plain_reply(raw).replace("[[训练时间]]", "2023年"))


def soulchat_reply(raw: str) -> str:
    """The same with no empty lines (scutcyr/SoulChat soulchat_app.py, `answer`)."""
    return re.sub(r"\n+", "\n", chatglm_reply(raw))


# Tails that a later token may still change: white space and the beginning of a label behind it, half-width
# punctuation, half an escape, placeholder, round or white-space piece, and a character of which only some bytes have
# come.
GAP = r"(?:\s|\\[nt])"
UNSETTLED = re.compile(
    rf"(?:(?<!\s)(?<!\\[nt]){GAP}+(?:(?:病人?|患者?|用户?){GAP}*)*|[,!:;?\ufffd]+|\[\[?[^\]\s]{{0,4}}\]?|\\+"
    r"|\[Round(?: \d*)?|<(?:n|\|[a-z]{0,5}(?:_\d{0,2})?\|?)?)$"
)
HALF_ECHO = re.compile(rf"{GAP}*(?:医(?:生{GAP}*)?|心(?:理(?:咨(?:询(?:师{GAP}*)?)?)?)?|答{GAP}*)?")


def settled(raw: str) -> str:
    """The part of an unfinished raw reply that further tokens can no longer change once it is cleaned."""
    while cut := UNSETTLED.search(raw):
        raw = raw[: cut.start()]
    return "" if HALF_ECHO.fullmatch(raw) else raw


def over(raw: str) -> bool:
    """Whether the model has gone on to speak for the patient: nothing that follows belongs to the reply."""
    return SELF_CONTINUED.search(raw) is not None


def fit(
    dialogue: Dialogue, window: int, count: Callable[[Dialogue], int], rounds: int | None = None
) -> tuple[list[Message], int]:
    """Leave out the oldest middle rounds until the prompt has at most `window` tokens.

    The first complaint and the newest turn always stay. A model that reads only so many finished `rounds` gets the last
    ones, and the first of these counts as the first complaint. Returns the dialogue and the rounds left out; TooLong if
    even the two turns do not fit.

    Rounds are counted once each, from the newest back until the window is full; whole prompts only near that place, as
    tokens across a seam may merge.
    """
    before = 0 if rounds is None else max(0, len(dialogue) // 2 - rounds)
    turns = dialogue[2 * before :]
    last = len(turns) - 1
    # Behind the first complaint: its answer and the next question go together, so roles keep alternating.
    kept = lambda dropped: [*turns[:1], *turns[max(1, min(1 + 2 * dropped, last)) :]]
    dropped = most = max(0, last // 2)
    if (least := count(kept(most))) > window:
        raise TooLong(
            f"这段话太长了：模型最多读 {window} 个词元，现在有 {least} 个，请缩短后再发送 "
            f"(the message is too long: the model reads {window} tokens, this is {least}; please shorten it)"
        )
    room, empty = window - least, count([])
    while dropped and room > 0:
        start = 2 * dropped - 1
        room -= count(turns[start : min(start + 2, last)]) - empty
        dropped -= 1
    while dropped < most and count(kept(dropped)) > window:
        dropped += 1
    while dropped and count(kept(dropped - 1)) <= window:
        dropped -= 1
    return kept(dropped), before + dropped
