"""Whether a doctor's turn asks the patient for information, told by the sentence and not by a word list."""

from __future__ import annotations

from functools import partial

from bianque.consult.patterns import pattern, simplified

SHORT = 25  # characters an unmarked question may have
REQUEST = 80  # characters a request for a description may have

_re = partial(pattern, "questions")


def plain(text: str) -> str:
    """The text with the common traditional characters of consultations written in simplified script."""
    return text.translate(simplified("questions"))


def sentences(text: str) -> list[str]:
    """The sentences of a turn, each with its own final punctuation."""
    found, start = [], 0
    for end in _re("end").finditer(text):
        found.append(text[start : end.end()])
        start = end.end()
    found.append(text[start:])
    return [s.strip() for s in found if s.strip()]


def _is_question(sentence: str) -> bool:
    body = _re("number").sub("", plain(sentence)).strip()
    core = body.strip("。！!？?；;.…~～ 　\n”’」』\"')）（(“‘，,、：:")
    if _re("mark").search(body):
        return not (core and _re("courtesy").search(core))
    if _requests(core):
        return True
    if body.endswith(("。", ".")):
        return len(core) <= SHORT and bool(_re("stopped").search(core)) and not _idle(core)
    return not body.endswith(("：", ":", "！", "!", "；", ";")) and _asks_unmarked(core)


def _idle(core: str) -> bool:
    return bool(
        _re("courtesy").search(core)
        or _re("welcome").search(core)
        or _re("led").search(core[:-1])
        or _re("idle").search(core)
    )


def _asks_unmarked(core: str) -> bool:
    """A short sentence without a stop that ends in a question particle or holds an interrogative."""
    if not core or len(core) > SHORT or _re("courtesy").search(core) or _re("welcome").search(core):
        return False
    if _re("particle").search(core) and not _re("false_final").search(core):
        return True
    for found in (*_re("yes_no").finditer(core), *_re("wh").finditer(core)):
        around, after = core[max(0, found.start() - 3) : found.end() + 3], core[found.start() :]
        if not (
            _re("idle").search(around)
            or _re("idle").match(core, found.start())
            or _re("led").search(core[: found.start()])
            or _re("moot").search(after)
        ):
            return True
    return False


def _requests(core: str) -> bool:
    """A request that the patient describe or hand over something, addressed to nobody else."""
    later = _re("later").search(core) and not _re("already").search(core)
    return len(core) <= REQUEST and bool(_re("tell").search(core)) and not _re("not_tell").search(core) and not later


def questions(text: str) -> list[str]:
    """The sentences of a doctor's turn that ask the patient for information."""
    return [sentence for sentence in sentences(text) if _is_question(sentence)]


def asks(text: str) -> bool:
    """True if the doctor's turn asks the patient for information: the definition behind question_rate."""
    return any(_is_question(sentence) for sentence in sentences(text))


def wonders(text: str) -> bool:
    """Whether a visitor's message asks, or may do so without the marks of a question."""
    return asks(text) or _re("wonders").search(text) is not None


def last_stop(text: str) -> int:
    """Where the last finished sentence ends."""
    return max((text.rfind(mark) for mark in "？?。！!\n"), default=-1) + 1
