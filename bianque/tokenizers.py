"""SentencePiece tokenizers as the published models use them, with one difference: text never becomes a special token.

Upstream's classes look for special tokens inside the text, so that a visitor who types ``<sop>`` moves the prefix
boundary. Here only `prompt` adds them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sentencepiece import SentencePieceProcessor


class Tokenizer(Protocol):
    eos: int
    pad: int

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; never a special one."""

    def prompt(self, text: str) -> list[int]:
        """Ids the model is given to complete: the text with the architecture's markers."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special ones are left out. A character cut in half decodes to U+FFFD at the end."""


class ChatGLMTokenizer:
    """ChatGLM-6B, later code (`ice_text.model`): THUDM/chatglm-6b ``tokenization_chatglm.py``.

    Newlines, tabs and runs of 2 to 80 spaces are pieces of their own; a prompt ends in ``[gMASK] <sop>``.
    """

    pieces = ("<unk>", "<s>", "</s>", "<pad>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>")
    max_blank = 80

    def __init__(self, path: Path) -> None:
        self.model = SentencePieceProcessor(model_file=str(path))
        ids = dict(zip(self.pieces, map(self.model.piece_to_id, self.pieces), strict=True))
        missing = [name for name, found in ids.items() if found == ids["<unk>"] and name != "<unk>"]
        if missing:
            raise ValueError(
                f"{path.name} has no piece {', '.join(missing)}: not a tokenizer of ChatGLM-6B's later code"
            )
        self.special = frozenset(ids.values())
        self.mask, self.gmask, self.bos, self.eos, self.pad = (
            ids[name] for name in ("[MASK]", "[gMASK]", "<sop>", "<eop>", "<pad>")
        )

    def encode(self, text: str) -> list[int]:
        text = text.replace("\n", "<n>").replace("\t", "<|tab|>")
        for size in range(self.max_blank, 1, -1):
            text = text.replace(" " * size, f"<|blank_{size}|>")
        return [i for i in self.model.encode(text) if i not in self.special]

    def prompt(self, text: str) -> list[int]:
        return [*self.encode(text), self.gmask, self.bos]

    def decode(self, ids: Sequence[int]) -> str:
        text = self.model.decode([i for i in ids if i not in self.special and i < self.model.vocab_size()])
        text = text.replace("<n>", "\n").replace("<|tab|>", "\t")
        return re.sub(r"<\|blank_(\d+)\|>", lambda found: " " * int(found[1]), text)


class T5Tokenizer:
    """T5 (`spiece.model`): a prompt ends in ``</s>``; the 100 ``<extra_id_…>`` behind the pieces are never made."""

    def __init__(self, path: Path) -> None:
        self.model = SentencePieceProcessor(model_file=str(path))
        self.eos, self.pad = self.model.eos_id(), self.model.pad_id()
        self.special = frozenset((self.eos, self.pad, self.model.unk_id()))

    def encode(self, text: str) -> list[int]:
        # An unknown piece is the model's honest "some character", not a control token: it stays.
        return self.model.encode(text)

    def prompt(self, text: str) -> list[int]:
        return [*self.encode(text), self.eos]

    def decode(self, ids: Sequence[int]) -> str:
        kept = [i for i in ids if i not in self.special and i < self.model.vocab_size()]
        return self.model.decode(kept).strip()
