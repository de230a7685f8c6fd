"""What a card of a user's own file may hold, as pydantic checks it; `description` is for whoever wrote something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from bianque.catalog import builtin
from bianque.catalog.card import completions
from bianque.types import Architecture, Bits, ModelRole

WHOLE = "{} 到 {} 之间的整数 (a whole number)"
NUMBER = "{} 到 {} 之间的数 (a number)"
OR_NULL = "，或 null"
# Of every request's body, what the client writes itself.
OWN = ("messages", "model", "stream", "key", "api_key")


def whole(least: int, most: int, more: str = "") -> Any:
    return Field(ge=least, le=most, description=WHOLE.format(least, most) + more)


def number(least: float, most: float) -> Any:
    return Field(ge=least, le=most, allow_inf_nan=False, description=NUMBER.format(least, most))


def one_of(kind: Any) -> Any:
    return Field(description=f"其中之一 (one of): {', '.join(map(str, get_args(kind)))}")


def line(most: int = 400, more: str = "") -> Any:
    return Field(max_length=most, description=f"一行 1 到 {most} 个字符的文字 (one line of text){more}")


def matching(pattern: str, words: str) -> Any:
    return Field(pattern=rf"\A(?:{pattern})\Z", description=words)


def printable(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("not one line of text")
    return text


def is_format(name: str) -> str:
    if name not in builtin.FORMATS:
        raise ValueError("no prompt format")
    return name


def is_address(url: str) -> str:
    completions(url)  # BadInput is a ValueError
    return url


def is_body(body: dict[str, Any]) -> dict[str, Any]:
    if set(body) & set(OWN):
        raise ValueError("the client's own field")
    return body


Line = Annotated[str, AfterValidator(printable)]
Text = Annotated[str, StringConstraints(min_length=1)]
Format = Annotated[str, AfterValidator(is_format)]
FILE = Annotated[str, StringConstraints(pattern=r"\A(?!/)(?!.*\.\.)[\w.*?\[\]/-]{1,200}\Z")]
REPO = r"[\w.-]{1,96}/[\w.-]{1,96}"
PLACE = "本机的位置 (a place on this machine)"


class StrictCard(BaseModel):
    """Nothing is converted, and no field is there that is not named here; a field that is not given is not set."""

    model_config = ConfigDict(strict=True, extra="forbid", regex_engine="python-re")
    elsewhere: ClassVar[Mapping[str, str]] = {}  # of fields that belong to another place, which


class SamplingGiven(StrictCard):
    temperature: float = number(0, 2)
    top_p: float = number(0.01, 1)
    top_k: int = whole(0, 100_000)
    repetition_penalty: float = number(0.1, 10)
    no_repeat_ngram: int = whole(0, 100)
    min_new_tokens: int = whole(0, 1 << 15)
    max_new_tokens: int = whole(1, 1 << 15)
    stop: list[Text] = Field(description="文字的列表 (a list of texts)")
    seed: int | None = whole(0, 2**63 - 1, OR_NULL)


class RemoteSampling(StrictCard):
    """What every OpenAI-compatible server takes; the rest goes into a card's `body`, under its server's own names."""

    elsewhere = dict.fromkeys(
        set(SamplingGiven.model_fields) - {"temperature", "top_p", "max_new_tokens", "stop", "seed"},
        "写进 body，用服务器自己的字段名 (write it into body, under the server's own name)",
    )

    temperature: float = number(0, 2)
    top_p: float = number(0.01, 1)
    max_new_tokens: int = whole(1, 1 << 15)
    stop: list[Text] = Field(max_length=4, description="至多 4 段文字的列表 (a list of up to 4 texts)")
    seed: int | None = whole(0, 2**63 - 1, OR_NULL)


class Shown(StrictCard):
    """What every card says, wherever its model runs."""

    name: str = matching(r"\w[\w.-]{0,63}", "1 到 64 个字母、数字、汉字、点、横线 (letters, digits, dots, dashes)")
    like: str = Field(description="已有卡片的名称 (the name of a card)")
    title: Line = line(80)
    role: ModelRole = one_of(ModelRole)
    licence: Line = line()
    citation: Line = line()


class LocalCard(Shown):
    """A card whose model is loaded on this machine."""

    architecture: Architecture = one_of(Architecture)
    prompt: Format = Field(description=f"其中之一 (one of): {', '.join(builtin.FORMATS)}")
    clean: Format = Field(description=f"其中之一 (one of): {', '.join(builtin.FORMATS)}")
    sampling: SamplingGiven = Field(description="采样参数的对象 (an object of sampling fields)")
    window: int = whole(64, 1 << 20)
    bytes: int = whole(1, 1 << 44)
    parameters: int = whole(1, 1 << 42)
    kept: int = whole(0, 1 << 42)
    head: int = whole(0, 1 << 42)
    cache: int = whole(1, 1 << 30)
    stored: Bits = Field(description="16、8 或 4 (bits a weight)")
    repo: str | None = matching(REPO, f"模型库的名称，如 owner/name (a Hub id){OR_NULL}")
    revision: str = matching(r"[\w./-]{1,128}", "分支、标签或提交 (a branch, tag or commit)")
    files: list[FILE] = Field(min_length=1, description="文件名或通配符的列表 (a list of file names or patterns)")
    adapter: Line | None = line(200, OR_NULL)
    rounds: int | None = whole(1, 1000, OR_NULL)
    preview: bool = Field(description="true 或 false")
    path: Text = Field(description=PLACE)
    adapter_path: Text = Field(description=PLACE)


class RemoteCard(Shown):
    """A card whose model answers behind a URL."""

    url: Annotated[str, AfterValidator(is_address)] = Field(
        description="http(s) 地址，如 https://host/v1，不含密码和参数 (an http(s) URL without password or parameters)"
    )
    model: Line = line(200)
    key_env: str | None = matching(
        r"[A-Za-z_]\w{0,127}",
        f"存放密钥的环境变量的名称，不是密钥 (the name of a variable, not the key itself){OR_NULL}",
    )
    sampling: RemoteSampling = Field(description="采样参数的对象 (an object of sampling fields)")
    system: Annotated[str, StringConstraints(min_length=1, max_length=20_000)] | None = Field(
        description=f"1 到 20000 个字符的文字 (a text){OR_NULL}"
    )
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        description="max_tokens 或 max_completion_tokens (one of the two)"
    )
    body: Annotated[dict[str, Any], AfterValidator(is_body)] = Field(
        description=f"请求里另加的字段的对象，不含 {'、'.join(OWN)} (an object of further fields, none of these)"
    )
    arena: bool = Field(description="true 或 false")


def place(kind: type[StrictCard], path: Sequence[int | str]) -> tuple[type[StrictCard], list[str]]:
    """The model and the names of the field that a fault's path leads to; items of a list are the list's."""
    first, *rest = path
    field = kind.model_fields.get(str(first))
    inner = field.annotation if field else None
    if rest and isinstance(inner, type) and issubclass(inner, StrictCard):
        kind, names = place(inner, rest)
        return kind, [str(first), *names]
    return kind, [str(first)]
