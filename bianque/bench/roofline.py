"""What writing a token and reading a prompt cost on paper: bytes to read, FLOPs to compute, and the slower of the two.

Williams et al., Roofline: An Insightful Visual Performance Model, CACM 2009. Norms, biases and embeddings are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Config = Mapping[str, Any]  # of a config.json


class Roof(NamedTuple):
    """What hardware does in a second: bytes read, FLOPs computed."""

    read: float
    compute: float

    def seconds(self, size: float, flops: float) -> float:
        return max(size / self.read, flops / self.compute)


class Weights(NamedTuple):
    """How many multiply a token of the prompt and one of the reply in all layers, and once more any that is drawn."""

    prompt: int
    reply: int
    head: int


def weights(config: Config, arch: str) -> Weights:
    if arch == "t5":  # the encoder reads; of its output the decoder keeps keys and values, at which each token looks
        width, inner = config["d_model"], config["d_kv"] * config["num_heads"]
        attention, feed = 4 * width * inner, 3 * width * config["d_ff"]
        looking = 2 * width * inner
        reads = config["num_layers"] * (attention + feed) + config["num_decoder_layers"] * looking
        writes = config["num_decoder_layers"] * (attention + looking + feed)
    else:
        width = config["hidden_size"]
        reads = writes = config["num_layers"] * (4 * width**2 + 2 * width * config["inner_hidden_size"])
    return Weights(reads, writes, width * config["vocab_size"])


def cached(config: Config, arch: str) -> int:
    """Numbers that a token of a conversation leaves in all layers: a key and a value, as wide as all heads."""
    if arch == "t5":
        return 2 * config["num_decoder_layers"] * config["d_kv"] * config["num_heads"]
    return 2 * config["num_layers"] * config["hidden_size"]


def kv_bytes(config: Config, arch: str, context: int, itemsize: int) -> int:
    """Keys and values of a conversation of so many tokens, a T5's prompt and reply together."""
    return cached(config, arch) * context * itemsize


def step_flops(config: Config, arch: str, rows: int, context: float) -> float:
    """One token for every row: each weight and each cached number takes a multiplication and an addition."""
    _, reply, head = weights(config, arch)
    return 2 * rows * (reply + head + cached(config, arch) * context)


def prefill_flops(config: Config, arch: str, prompt: int) -> float:
    """A prompt, all of whose tokens look at all, and the first token of the reply."""
    reads, _, head = weights(config, arch)
    if arch == "t5":
        looks = 2 * config["num_layers"] * config["d_kv"] * config["num_heads"]
        return 2 * prompt * (reads + looks * prompt) + step_flops(config, arch, 1, prompt)
    return 2 * prompt * (reads + cached(config, arch) * prompt) + 2 * head
