"""Every measure of a doctor's turns that an evaluation reports: its name, what it means, and how it is counted.

A measure is a ratio of sums over dialogues wherever it can be: the same two numbers of each dialogue give the figure
and, resampled, the interval of a difference. The words and numbers here are the only place where they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bianque.consult.questions import asks, questions
from bianque.consult.text import length
from bianque.data.dialogues import Bilingual
from bianque.data.formats import ASPECTS
from bianque.evaluate import metrics
from bianque.evaluate.metrics import ORDERS, Rouge, rouge
from bianque.evaluate.rows import Row


@dataclass(frozen=True, slots=True)
class Reply:
    """An answered row and what the measures need to know of its words."""

    row: Row
    text: str
    questions: int
    human_asks: bool | None  # where the task feeds the human's dialogue
    rouge: Rouge | None

    @classmethod
    def of(cls, row: Row) -> Reply:
        text, human = row.answer or "", row.reference
        return cls(
            row,
            text,
            len(questions(text)),
            asks(human) if human is not None and row.task == "next" else None,
            rouge(text, human) if human is not None else None,
        )


class Talk(NamedTuple):
    """The replies of one model in one dialogue, by turn; `whole` if none of its turns failed."""

    replies: Sequence[Reply]
    whole: bool


class Part(NamedTuple):
    """What one dialogue adds to the numerator and denominator of a measure, and how many items that was."""

    over: float = 0
    under: float = 0
    n: int = 0


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure. `format` is a format specification; `parts` is None where a figure is no ratio of sums."""

    name: str
    title: Bilingual
    meaning: Bilingual
    better: Literal["higher", "lower", "neither"]
    format: str
    parts: Callable[[Talk], Part] | None = None


# --- what a dialogue adds ----------------------------------------------------------------------------------------


def _mean(value: Callable[[Reply], float | None]) -> Callable[[Talk], Part]:
    """The mean of a value over the replies that have it."""

    def parts(talk: Talk) -> Part:
        found = [v for v in map(value, talk.replies) if v is not None]
        return Part(sum(found), len(found), len(found))

    return parts


def _any_ask(talk: Talk) -> Part:
    return Part(any(reply.questions for reply in talk.replies), 1, 1) if talk.whole else Part()


def _repetition(talk: Talk) -> Part:
    repeated, total = metrics.repeated_4grams([reply.text for reply in talk.replies]) if talk.whole else (0, 0)
    return Part(repeated, total, bool(total))


def _speed(talk: Talk) -> Part:
    timed = [(r.row.tokens, r.row.seconds) for r in talk.replies if r.row.tokens is not None and r.row.seconds]
    return Part(sum(tokens for tokens, _ in timed), sum(seconds for _, seconds in timed), len(timed))


def _pqa(over: Callable[[bool, bool], float], under: Callable[[bool, bool], float]) -> Callable[[Talk], Part]:
    """Sums over pairs (the human asks, the model asks)."""

    def parts(talk: Talk) -> Part:
        pairs = [(r.human_asks, r.questions > 0) for r in talk.replies if r.human_asks is not None]
        return Part(sum(over(g, m) for g, m in pairs), sum(under(g, m) for g, m in pairs), len(pairs))

    return parts


def _judged(aspect: str) -> Callable[[Talk], Part]:
    return _mean(lambda reply: (_scores(reply) or {}).get(aspect))


def _scores(reply: Reply) -> dict[str, float] | None:
    return reply.row.judged.scores if reply.row.judged else None


def _all_aspects(reply: Reply) -> float | None:
    scores = _scores(reply) or {}
    return sum(scores[a] for a in ASPECTS) / len(ASPECTS) if all(a in scores for a in ASPECTS) else None


# --- the table ---------------------------------------------------------------------------------------------------

TIMES = {"median": 0.5, "p90": 0.9}  # quantiles of a latency


def _measure(
    name: str, zh: str, en: str, meaning: tuple[str, str], better: Literal["higher", "lower", "neither"], format: str,
    parts: Callable[[Talk], Part] | None = None,
) -> Measure:  # fmt: skip
    return Measure(name, Bilingual(zh, en), Bilingual(*meaning), better, format, parts)


_ASKING = [
    _measure("question_rate", "提问率", "question rate",
        ("向患者提问的医生轮次占全部医生轮次的比例。", "Doctor turns that ask the patient for information / doctor turns."),
        "neither", ".3f", _mean(lambda r: r.questions > 0)),
    _measure("first_turn_ask", "首轮提问", "first turn asks",
        ("第一个医生轮次就提问的对话占比。", "Dialogues whose first doctor turn asks / dialogues."),
        "neither", ".3f", _mean(lambda r: r.questions > 0 if r.row.turn == 0 else None)),
    _measure("dialogue_any_ask", "有过提问", "dialogue asks",
        ("至少有一个医生轮次提问的对话占比；有出错轮次的对话不计。",
         "Dialogues with a doctor turn that asks / dialogues without an error."),
        "neither", ".3f", _any_ask),
    _measure("questions_per_turn", "每轮问句数", "questions per turn",
        ("每个医生轮次里提问的句子数。", "Sentences that ask / doctor turns."),
        "neither", ".2f", _mean(lambda r: r.questions)),
    _measure("pqa_f1", "主动提问 F1", "PQA-F1",
        ("给出人类医生的历史，该问时是否提问：2PR/(P+R)，按我们的操作定义。",
         "Fed the human's dialogue, does it ask where the human asked: 2PR/(P+R), our operationalisation."),
        "higher", ".3f", _pqa(lambda g, m: 2 * (g and m), lambda g, m: g + m)),
    _measure("pqa_precision", "主动提问精确率", "PQA precision",
        ("模型提问的轮次里，人类医生也提问的比例。", "Of the turns where the model asks, those where the human asked."),
        "higher", ".3f", _pqa(lambda g, m: g and m, lambda g, m: m)),
    _measure("pqa_recall", "主动提问召回率", "PQA recall",
        ("人类医生提问的轮次里，模型也提问的比例。", "Of the turns where the human asked, those where the model asks."),
        "higher", ".3f", _pqa(lambda g, m: g and m, lambda g, m: g)),
    _measure("pqa_always_ask", "总是提问的 F1", "PQA-F1 of always asking",
        ("每轮都提问所得的 F1，即 2p/(1+p)，p 为人类医生提问的比例：要超过它才算好。",
         "F1 of asking at every turn, 2p/(1+p) with p the share of human turns that ask: the baseline to beat."),
        "neither", ".3f", _pqa(lambda g, m: 2 * g, lambda g, m: 1 + g)),
    _measure("human_question_rate", "人类提问率", "human question rate",
        ("同样轮次里人类医生提问的比例。", "The same turns by the human doctor: those that ask."),
        "neither", ".3f", _pqa(lambda g, m: g, lambda g, m: 1)),
]  # fmt: skip
_WORDING = [
    _measure("length", "平均长度", "mean length",
        ("每个医生轮次的字符数，不计空白。", "Characters of a doctor turn without white space, mean."),
        "neither", ".0f", _mean(lambda r: length(r.text))),
    _measure("distinct_1", "distinct-1", "distinct-1",
        ("全部医生轮次中不同的词元占比；与数量有关，只可在相同条目间比较。",
         "Unique / all tokens of all doctor turns; depends on their number: compare identical items only."),
        "higher", ".4f"),
    _measure("distinct_2", "distinct-2", "distinct-2",
        ("全部医生轮次中不同的二元组占比；与数量有关，只可在相同条目间比较。",
         "Unique / all bigrams of all doctor turns; depends on their number: compare identical items only."),
        "higher", ".4f"),
    _measure("self_repetition", "自我重复", "self-repetition",
        ("第 2 轮起的四元组中，同一对话较早的医生轮次已出现过的占比；有出错轮次的对话不计。",
         "4-grams of doctor turns 2..k that an earlier one of the dialogue has; dialogues without an error."),
        "lower", ".3f", _repetition),
    _measure("repeats_4gram", "反复的四元组", "repeats a 4-gram",
        ("某个四元组出现三次或更多的轮次占比；很长的列举也会如此。",
         "Turns in which some 4-gram occurs three times or more; long enumerations have that too."),
        "lower", ".3f", _mean(lambda r: metrics.repeats_4gram(r.text))),
    _measure("empty", "空回答", "empty",
        ("清理后什么也没说的轮次占比。", "Turns that say nothing once cleaned."), "lower", ".3f", _mean(lambda r: not r.text)),
]  # fmt: skip
_OVERLAP = [
    *(_measure(f"bleu_{n}", f"BLEU-{n}", f"BLEU-{n}",
        (f"与人类医生的回答比较的语料级 BLEU-{n}（sacrebleu，中文切字），0 到 100。",
         f"Corpus BLEU-{n} against the human doctor (sacrebleu, tokenize zh), 0 to 100."), "higher", ".2f") for n in ORDERS),
    *(_measure(f"rouge_{name}", f"ROUGE-{name.upper()}", f"ROUGE-{name.upper()}",
        (f"与人类医生的回答比较的 ROUGE-{name.upper()} F1 的均值，0 到 100；一个汉字、一串字母、一个数或一个标点为一个词元。",
         f"Mean F1 of ROUGE-{name.upper()} against the human doctor, 0 to 100; a token is a Han character, a run of letters, "
         "a number or a mark."), "higher", ".2f", _mean(value)) for name, value in (
            ("1", lambda r: r.rouge and 100 * r.rouge.one), ("2", lambda r: r.rouge and 100 * r.rouge.two),
            ("l", lambda r: r.rouge and 100 * r.rouge.longest))),
]  # fmt: skip
_JUDGE = [
    *(_measure(f"judge_{aspect}", f"评分：{zh}", f"judge: {en}",
        (f"评审给整段对话的{zh}打的分，1 到 5，取均值。", f"What a judge gave whole dialogues for {en}, 1 to 5, mean."),
        "higher", ".2f", _judged(aspect))
      for aspect, zh, en in zip(ASPECTS, ("主动性", "准确性", "有用性", "语言质量"),
                                ("proactivity", "accuracy", "helpfulness", "linguistic quality"), strict=True)),
    _measure("judge_mean", "评分：平均", "judge: mean",
        ("四项评分的均值，四项齐全的对话。", "The mean of the four, of dialogues that have all four."),
        "higher", ".2f", _mean(_all_aspects)),
]  # fmt: skip
_LATENCY = [
    *(_measure(f"{name}_{at}", f"{zh}（{zh_at}）", f"{en}, {en_at}",
        (f"每次回答{what}的{zh_at}。", f"{of}, {en_at} over the replies."), "lower", ".2f")
      for name, zh, en, what, of in (
          ("first", "首字秒数", "first token s", "到第一个字的秒数", "Seconds to the first token"),
          ("seconds", "全文秒数", "reply s", "到说完的秒数", "Seconds to the end of the reply"))
      for at, zh_at, en_at in (("median", "中位数", "median"), ("p90", "第 90 百分位", "90th percentile"))),
    _measure("tokens_per_second", "每秒词元", "tokens/s",
        ("全部词元数除以全部回答的秒数，等待首字的时间在内。", "Tokens / seconds of all replies, the wait for the first included."),
        "higher", ".1f", _speed),
]  # fmt: skip
MEASURES: dict[str, Measure] = {m.name: m for m in (*_ASKING, *_WORDING, *_OVERLAP, *_JUDGE, *_LATENCY)}
