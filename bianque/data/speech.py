"""How patients talk and type."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path

from pydantic import RootModel, model_validator

from bianque.data.script import traditional
from bianque.data.strict_yaml import Text, Texts, Wrong, load

# What makes no sense without its question: an answer that is appended to another one must not begin like this.
BOUND = re.compile(r"^(?:没|不|都|无|还|挺|正常|可以|一般|嗯|对|是|有点?$|有过?$|会|能|就|很|也|从来|偶尔$|好像没)")
NUMERALS = "零一二三四五六七八九十"
NUMBER = re.compile(rf"(?<![{NUMERALS}几点])[一二三四五六七八九十](?=个?多?(?:天|周|星期|月|年|次|岁|小时|分钟))")
YES_NO = re.compile(r"有没有|有过.*吗|有.*吗？|没有？|过没")
KIN = {
    "他": "老公|丈夫|爸爸?|父亲|爷爷|外公|姥爷|公公|岳父|哥|弟弟?|儿子",
    "她": "老婆|媳妇|妻子|妈妈?|母亲|奶奶|外婆|姥姥|婆婆|岳母|姐|妹妹?|闺蜜",
}
OTHER = re.compile(rf"^(?:医生|大夫|您好|你好|，)*我家?(?:({KIN['他']})|({KIN['她']}))(?!得过|走了|就是|也)")
ADDRESSED = re.compile(r"[您你](?!说|讲|提|好|描述|先|别|放心|慢|刚|的意思|看)")
ABOUT_ME = re.compile(r"我(?!们|家|妈|爸|老|想|问|给)")


def typed(r: random.Random, text: str, typos: Mapping[str, str], script: bool) -> str:
    """As people type: digits, a stop or none; with `typos` no marks or a wrong character; in traditional `script`."""
    if r.random() < 0.2:
        text = NUMBER.sub(lambda found: str(NUMERALS.index(found[0])), text)
    if r.random() < 0.08:
        text = text if text[-1] in "。？！" else text + r.choice("。。～")
    if typos:
        how = r.random()
        if how < 0.3:
            text = re.sub(r"[，。？！]+", r.choice(["", " "]), text).strip() or text
        elif how < 0.6:
            wrong = [word for word in typos if word in text]
            if wrong:
                word = r.choice(wrong)
                text = text.replace(word, typos[word], 1)
        elif how < 0.7 and len(text) > 6:
            at = r.randrange(1, len(text) - 1)
            text = text[:at] + text[at + 1 :]
    return text.translate(traditional()) if script else text


class Dialect(RootModel[dict[Text, Texts]]):
    """Words of the knowledge base, and for each what is said for it, as regular expressions."""

    @model_validator(mode="after")
    def consistent(self) -> Dialect:
        owners: dict[str, str] = {}
        for word, row in self.root.items():
            for place, said in enumerate(row):
                if owners.setdefault(said, word) != word:
                    raise Wrong(f"{said!r} stands for {owners[said]!r}, too; take one out", word, place)
            try:
                pattern = re.compile("|".join(row))
            except re.error as error:
                raise Wrong(f"not regular expressions: {error}; mend the row", word) from None
            if again := next((known for known in self.root if pattern.search(known)), None):
                raise Wrong(
                    f"matches {again!r}, a word on the left, which would be replaced in turn; take that out", word
                )
        return self


@cache
def dialect(path: Path = Path(__file__).with_name("dialect.yaml")) -> tuple[tuple[re.Pattern[str], str], ...]:
    """What is said in one region or another, and the word that the knowledge base has for it; BadInput names a wrong line."""
    return tuple((re.compile("|".join(said)), word) for word, said in load(path, Dialect).root.items())


@lru_cache(maxsize=4096)
def standard(text: str) -> str:
    """The text in the knowledge base's words: 屙稀 becomes 拉稀."""
    for said, word in dialect():
        text = said.sub(word, text)
    return text
