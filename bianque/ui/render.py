"""From the turns a browser keeps to what the chatbot shows. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from bianque.consult import alarms, questions, quick, triage
from bianque.consult.handoff import CARE
from bianque.consult.transcript import Turn
from bianque.data.script import traditional
from bianque.i18n import say

HELPLINES = {"emergency": ("120",), "crisis": ("12356", "120")}  # of a notice that names none itself
SHORT = 8  # characters of an answer that says nothing without its question
SHOWN = 28  # characters of a quotation in the line of what was gathered
_BOTH = re.compile(
    r"(?P<lead>[^一-鿿]*: )?(?P<zh>.*?[一-鿿].*?)\s\((?P<en>[^一-鿿（）。，；]*)\)(?P<tail>[^一-鿿（）]*)", re.DOTALL
)
_GLUED = re.compile(r"\s\([^()一-鿿]*\)[;；:.]")  # an English half that is not the last
_LIST = re.compile(r"(?m)^(\s*)[*•] +")
_ITEM = r"[ \t]*(?:-|\d{1,2}[.)])[ \t]"
_AFTER_LIST = re.compile(rf"(?m)^({_ITEM}.*)\n(?=\S)(?!{_ITEM})")
TAIWAN = str.maketrans("爲裏", "為裡")  # as they are written there
_QUICK = {"quick_no": quick.NO, "quick_unsure": quick.UNSURE, "quick_skip": quick.SKIP}


def kept_turns(value: object) -> list[Turn]:
    """The turns that a browser sent back; nothing of them where they are not what this page keeps."""
    whole = isinstance(value, list) and all(
        isinstance(turn, dict) and turn.get("role") in ("user", "assistant") and isinstance(turn.get("content"), str)
        for turn in value
    )
    return cast("list[Turn]", value) if whole else []


def paragraph(text: str, kind: str = "") -> str:
    """Escaped text in a paragraph of a CSS class."""
    return f'<p class="{kind}">{html.escape(text)}</p>' if kind else f"<p>{html.escape(text)}</p>"


def escape(text: str) -> str:
    """Text that Markdown shows as it was written: no tags, no links, no images."""
    text = html.escape(text, quote=False)
    for mark in ("[", "]", "`", "*", "_", "~", "$", "@", "://", "www."):
        text = text.replace(mark, f"&#{ord(mark[0])};{mark[1:]}")
    return text


def verbatim(text: str) -> str:
    """The same for a visitor's words, which are no Markdown at all: no headings, lists, quotations or code blocks."""
    text = re.sub(r"(?m)^[ \t]+", lambda found: "&nbsp;" * len(found[0]), escape(text))
    text = re.sub(r"(?m)^((?:&nbsp;)*)([#>+=|:-])", lambda found: f"{found[1]}&#{ord(found[2])};", text)
    return re.sub(r"(?m)^((?:&nbsp;)*\d+)([.)])", lambda found: f"{found[1]}&#{ord(found[2])};", text)


def written(text: str) -> str:
    """A model's words: numbered and dotted lists are lists, whichever dot it writes, and end where the next line is no item."""
    return escape(_AFTER_LIST.sub(r"\1\n\n", _LIST.sub(r"\1- ", text)))


def either(chinese: str, english: str, lang: str) -> str:
    """Of words in two languages those that a visitor reads, for zh-TW in its own script."""
    if not lang.startswith("zh"):
        return english
    return chinese.translate(traditional()).translate(TAIWAN) if lang == "zh-TW" else chinese


def one_language(text: str, lang: str) -> str:
    """Of a text like "name: 中文 (English); 中文 (English)" what this visitor reads; a text of one language as it is."""
    found = _BOTH.fullmatch(text)
    if found and _GLUED.search(found["zh"]):
        return "".join(_half(clause, lang) for clause in _clauses(text)).strip()
    return _half(text, lang).strip()


def _half(text: str, lang: str) -> str:
    if not (found := _BOTH.fullmatch(text)):
        return text
    half = either(found["zh"], found["en"], lang)
    return f"{found['lead'] or ''}{half}{found['tail']}"


def _clauses(text: str) -> Iterator[str]:
    """The text, cut behind each ; and : that stands in no brackets."""
    depth, begun = 0, 0
    for place, sign in enumerate(text, 1):
        depth += (sign in "(（") - (sign in ")）")
        if not depth and (sign == "；" or (sign in ";:." and text[place : place + 1] == " ")):
            place += text[place : place + 1] == " "
            yield text[begun:place]
            begun = place
    yield text[begun:]


def alert(text: str, lang: str) -> str:
    """What is wrong, a line each, in the visitor's language."""
    lines = "<br>".join(html.escape(one_language(part, lang)) for part in text.splitlines())
    return f'<div class="bq-notice" role="alert">{lines}</div>'


def who(turn: Turn, lang: str) -> str:
    """The line above a reply: a mark, what it is, and whose words they are."""
    phase = turn.get("phase") or "advising"
    sent = f" · {html.escape(say(lang, 'sent', host=turn['host']))}" if turn.get("host") else ""
    model = turn.get("model") or ""
    name = f" · {html.escape(model)}" if model != CARE else ""  # fixed words have no author to name
    return f'<span class="bq-who bq-{phase}">{say(lang, phase)}{name}{sent}</span>'


def reply_html(turn: Turn, lang: str, growing: bool = False) -> str:
    ends = {"cancelled": say(lang, "stopped"), "length": say(lang, "cut")}
    end = "" if growing else ends.get(turn.get("finish") or "", "")
    return f"{who(turn, lang)}\n\n{written(turn['content'])}{end}"


def in_words(notice: Mapping[str, Any], lang: str) -> Mapping[str, Any]:
    """A notice in a language: of a danger that the tables know, theirs; else as it was kept."""
    if notice["level"] not in HELPLINES or notice.get("certainty") not in ("sure", "likely"):
        return notice
    found = triage.Danger(level=notice["level"], kind=str(notice.get("kind", "")), certainty=notice["certainty"])
    words = triage.notice(found, lang)
    return {**notice, "text": words.text, "do": words.do, "tel": words.tel}


def notice_html(notice: Mapping[str, Any], lang: str, newest: bool, said: str = "") -> str:
    """A notice, what to do, and whom to call, all in one language; a newest red flag is read out at once.

    Who writes no Chinese (`said`) reads it in their own language; Chinese is what everybody is asked to write, and says nothing.
    """
    wrote = triage.language(said)
    lang = lang if wrote.startswith("zh") else wrote
    notice = in_words(notice, lang)
    level, danger = notice["level"], notice["level"] in HELPLINES
    given = notice.get("tel") or HELPLINES.get(level, ())
    numbers = [given] if isinstance(given, str) else given
    calls = (
        f'<a class="bq-call" href="tel:{html.escape(number)}">{say(lang, "call", number=html.escape(number))}</a>'
        for number in numbers
    )
    parts = [
        html.escape(one_language(part, lang)) for part in (notice["text"], notice.get("do")) if isinstance(part, str)
    ]
    tail = f'<span class="bq-calls">{"".join(calls)}</span>' if danger else ""
    role = ' role="alert"' if newest and danger else ""
    return (
        f'<div class="bq-notice bq-{html.escape(level)}"{role}>{"<br>".join(parts)}{tail}{why_html(notice, lang)}</div>'
    )


def why_html(notice: Mapping[str, Any], lang: str) -> str:
    """Behind a line to open: the known sentences that the message is like, which is why there is a notice."""
    near = [text for text in notice.get("nearest") or () if isinstance(text, str)]
    if not near:
        return ""
    items = "".join(f"<br>「{html.escape(clip(text))}」" for text in near)
    return f'<details class="bq-why"><summary>{html.escape(say(lang, "why_notice"))}</summary>{html.escape(say(lang, "why_nearest"))}{items}</details>'


def gathered(turns: Sequence[Turn], end: int) -> Iterator[str]:
    """What the visitor said up to the turn of a handover, in their words; a bare answer with the question it answers."""
    start = max((i for i in range(end) if turns[i].get("phase") == "advising"), default=-1) + 1
    asked = ""
    for turn in turns[start:end]:
        text = " ".join(turn["content"].split())
        if turn["role"] == "assistant":
            asked = (questions.sentences(text) or [text])[-1]
        elif text and text not in (quick.SKIP, quick.UNSURE):
            yield f"{clip(asked)}{text}" if asked and len(text) <= SHORT else clip(text)


def clip(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def handover_html(turns: Sequence[Turn], place: int, lang: str) -> str:
    """The line across the page where asking ends: why it does, and what was learned."""
    reason = turns[place]["handoff"]["reason"]
    asks_only = reason == "requested" and len(turns[place]["content"]) <= SHORT  # a bare request tells nothing
    end = place if asks_only else place + 1
    items = "".join(f"<span>{html.escape(text)}</span>" for text in gathered(turns, end))
    learned = f'<span class="bq-learned"><b>{say(lang, "learned")}</b>{items}</span>' if items else ""
    return (
        f'<span class="bq-handed"><b>{say(lang, "asking_over")} · {html.escape(say(lang, reason))}</b></span>{learned}'
    )


def relay_html(handoff: dict[str, str], lang: str) -> str:
    """A handover as those see it who compare models: from whom to whom, and why."""
    words = say(lang, "handed", source=handoff["from"], target=handoff["to"], reason=say(lang, handoff["reason"]))
    return f'<span class="bq-relay">{html.escape(words)}</span>'


def asides(turns: Sequence[Turn], place: int, lang: str, newest: bool, names: bool = False) -> str:
    """What stands between a visitor's turn and its reply: a notice, a handoff."""
    turn, parts = turns[place], []
    if notice := turn.get("notice"):
        parts.append(notice_html(notice, lang, newest, turn["content"]))
    if handoff := turn.get("handoff"):
        parts.append(relay_html(handoff, lang) if names else handover_html(turns, place, lang))
    return "\n\n".join(parts)


def ended_badly(turn: Turn, lang: str) -> str:
    """The line below a turn that an error ended; empty for any other."""
    error = turn.get("error")
    if not error:
        return ""
    words = say(lang, "failed") if error["code"] == "BQ_INTERNAL" else one_language(error["text"], lang)
    return f'<span class="bq-status bq-error">{html.escape(words)}</span>'


def lay(
    turns: Sequence[Turn], lang: str, status: str = "", growing: bool = False, names: bool = False
) -> list[tuple[int, dict[str, Any]]]:
    """Chatbot messages, each with the index of the turn it shows; the last of them may still be growing.

    `names`: a handover says which models it is between.

    Notices stand in a message of their own: they stay as they are, and are read out once, while the reply below grows.
    """
    newest = max((index for index, turn in enumerate(turns) if turn["role"] == "user"), default=0)
    shown: list[tuple[int, dict[str, Any]]] = []
    bot = lambda index, content: shown.append((index, {"role": "assistant", "content": content}))
    for index, turn in enumerate(turns):
        if turn["role"] == "user":
            shown.append((index, {"role": "user", "content": verbatim(turn["content"])}))
            if above := asides(turns, index, lang, index == newest, names):
                bot(index, above)
        else:
            bot(index, reply_html(turn, lang, growing and index == len(turns) - 1))
        if below := ended_badly(turn, lang):
            bot(index, below)
    if status:
        bot(len(turns) - 1, f'<span class="bq-status">{html.escape(status)}</span>')
    return shown


def chatbot(
    turns: Sequence[Turn], lang: str, status: str = "", growing: bool = False, names: bool = False
) -> list[dict[str, Any]]:
    return [message for _, message in lay(turns, lang, status, growing, names)]


def settled(turns: Sequence[Turn], lang: str) -> list[dict[str, Any]]:
    """The messages while nothing is on its way: what was stopped says so, and a question has its quick replies."""
    last = turns[-1] if turns else {}
    unanswered = last.get("role") == "user" and not last.get("error")
    shown = chatbot(turns, lang, say(lang, "stopped") if unanswered else "")
    if options := settling(turns, lang) or quick_replies(last, lang):
        shown[-1]["options"] = options
    return shown


def quick_replies(turn: Turn, lang: str) -> list[dict[str, str]]:
    """What answers a question by one tap: the choices that it names, and 没有, 不清楚, 跳过; which of two the visitor asked."""
    if turn.get("finish") == "cancelled":
        return []
    if turn.get("phase") != "asking":
        return [{"value": text, "label": text} for text in quick.offered(turn.get("content", ""))]
    named = quick.choices(turn["content"])
    usual = {
        key: value
        for key, value in _QUICK.items()
        if key != "quick_no" or not (named or quick.is_open(turn["content"]))
    }
    return [{"value": text, "label": text} for text in named] + [
        {"value": value, "label": say(lang, key)} for key, value in usual.items()
    ]


def settling(turns: Sequence[Turn], lang: str) -> list[dict[str, str]]:
    """What says by one tap that a sure emergency is taken care of or was none; sent in the language the visitor writes."""
    if not turns or turns[-1].get("model") != CARE:
        return []
    said = [turn["content"] for turn in turns if turn["role"] == "user"]
    found = alarms.after(said).open
    if found is None or found.level != "emergency":
        return []
    wrote = triage.language(said[-1])
    return [{"value": say(wrote, key), "label": say(lang, key)} for key in ("quick_handled", "quick_no_emergency")]


def progress_html(turns: Sequence[Turn], lang: str) -> str:
    """How far the asking has come, as a thin line; nothing once advice was given."""
    last = next((turn for turn in reversed(turns) if turn["role"] == "assistant"), {})
    if not last.get("question"):
        return ""
    question, budget = int(last["question"]), int(last["budget"])
    words = say(lang, "question_of", question=question, budget=budget)
    return (
        f'<div class="bq-line" role="progressbar" aria-valuemin="0" aria-valuemax="{budget}" aria-valuenow="{question}" '
        f'aria-label="{words}"><i style="width:{min(100, round(100 * question / budget))}%"></i></div><span>{words}</span>'
    )
