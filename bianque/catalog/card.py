"""What the project knows of a model: what is shown of it, and how it is loaded on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast, get_args
from urllib.parse import urlsplit

from bianque.errors import BadInput, LoadFailed
from bianque.types import LONGEST_REPLY, Architecture, Bits, Dialogue, ModelRole, Sampling


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How a model is loaded: its architecture, prompt format, files and sizes."""

    architecture: Architecture
    prompt: Callable[[Dialogue], str]
    clean: Callable[[str], str]
    window: int  # tokens the prompt may fill (t5) or prompt and reply together (the others)
    bytes: int  # weights as published, in bytes
    parameters: int  # weights in all
    kept: int  # of them keep 16 bits when the others go to 8 or 4: embeddings, norms, biases
    cache: int  # bytes of keys and values per token of a conversation, 16 bit
    files: tuple[str, ...] = field(default=())  # what is fetched from the Hub, as glob patterns
    stored: Bits = 16  # bits a weight as published, 16 also for float32
    head: int = 0  # of the weights go to 8 bits, never to 4, and stay at 16 if published so: the vocabulary's scores
    adapter: str | None = None  # a LoRA that is merged at load: its Hub id, or the file to name in BIANQUE_PATHS
    rounds: int | None = None  # finished rounds that the prompt keeps at most

    def memory(self, bits: Bits) -> int:
        """Bytes of the weights once loaded with `bits` a weight; what is published quantised stays as it is."""
        bits, others = (bits if self.stored == 16 else self.stored), self.parameters - self.kept - self.head
        scales = others // 128 * 4 if bits == 4 else 0  # a scale and a zero per 128 weights, as kernels take them
        head = max(bits, 8) if self.stored == 16 else 16
        return self.kept * 2 + self.head * head // 8 + others * bits // 8 + scales

    @property
    def precisions(self) -> tuple[Bits, ...]:
        """The bits a weight that the model can be held with."""
        return get_args(Bits) if self.stored == 16 else (self.stored,)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model answers that is not loaded here: an OpenAI-compatible server, and how it is asked.

    `url` is the base that `/chat/completions` follows. `key_env` names the environment variable that holds the key;
    the key itself is in no card. `body` goes into every request beside what the visitor sets, null takes a field out.
    """

    url: str
    model: str
    key_env: str | None = None
    system: str | None = None  # a system message before the dialogue
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"  # newer OpenAI models: the latter
    body: Mapping[str, Any] = field(default_factory=dict, hash=False)
    arena: bool = False  # may be drawn for blind battles

    @property
    def host(self) -> str:
        """Who gets the visitor's words."""
        return urlsplit(self.url).netloc

    @property
    def address(self) -> str:
        """Where requests go to; BadInput for a URL that there is no such address for."""
        return completions(self.url)


@dataclass(frozen=True, slots=True)
class Model:
    """What is shown of a model, wherever it runs: it has a `checkpoint` to load here, or an `endpoint` elsewhere."""

    name: str
    title: str
    role: ModelRole
    sampling: Sampling
    licence: str
    citation: str
    repo: str | None = None  # Hub id; None for a model that comes with the package, or has no repo
    revision: str = "main"
    preview: bool = False  # a small bundled stand-in, not medical knowledge
    checkpoint: Checkpoint | None = None
    endpoint: Endpoint | None = None

    @property
    def host(self) -> str | None:
        """The server that the visitor's words are sent to; None for a model on this machine."""
        return self.endpoint.host if self.endpoint else None

    @property
    def label(self) -> str:
        """The title in a list to choose from, and where the words go."""
        return f"{self.title} ↗ {self.host}" if self.host else self.title

    @property
    def terms(self) -> str:
        """The licence, and where the words went: for exports and listings."""
        if self.host is None:
            return self.licence
        return f"{self.licence}；文字会离开本机，发送到 {self.host} (the words leave this machine, to {self.host})"

    @property
    def loadable(self) -> Checkpoint:
        """The checkpoint; LoadFailed if there is none."""
        if self.checkpoint is None:
            raise LoadFailed(f"{self.title}: 没有可在本机加载的权重 (it has no checkpoint to load on this machine)")
        return self.checkpoint

    @property
    def precisions(self) -> tuple[Bits, ...]:
        """The bits a weight that one may choose; none where there is no checkpoint."""
        return self.checkpoint.precisions if self.checkpoint else ()

    def at(self, bits: Bits) -> Model:
        """The same model, held with so many bits a weight; its name says so, as `bianque-2@8`."""
        return replace(self, name=f"{self.base}@{bits}")

    @property
    def held(self) -> Bits | None:
        """Bits a weight that it must be held with; None: as memory allows."""
        bits = split_name(self.name)[1]
        return cast(Bits, int(bits)) if bits is not None else None

    @property
    def base(self) -> str:
        """The name without a precision: what files go by."""
        return split_name(self.name)[0]

    @property
    def longest(self) -> int:
        """Tokens of the longest conversation: a t5 keeps prompt and reply apart, the others share the window."""
        facts = self.loadable
        return facts.window + (max(LONGEST_REPLY, self.sampling.max_new_tokens) if facts.architecture == "t5" else 0)


def split_name(name: str) -> tuple[str, str | None]:
    """`bianque-2@8` → its name and its precision as written; None where there is none."""
    base, at, bits = name.partition("@")
    return base, bits if at else None


def completions(url: str) -> str:
    """The address of requests, from a server's (`http://host`), its base URL (`…/v1`) or the whole one.

    Exports keep it, so it may hold no password.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:  # a port that is none, half an IPv6 address
        valid = False
    if not valid:
        raise BadInput(f"{url!r}: 需要 http(s) 地址，如 https://host/v1 (an http(s) URL is needed)")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadInput(
            f"{parts.scheme}://{parts.hostname}: 地址里不要写密码或参数，密钥放在环境变量里 "
            "(leave passwords and parameters out of the URL; an environment variable holds the key)"
        )
    path = parts.path.rstrip("/")
    whole = path if path.endswith("/chat/completions") else f"{path or '/v1'}/chat/completions"
    return f"{parts.scheme}://{parts.netloc}{whole}"
