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

CONTROL, USER_DEFINED, BYTE = 3, 4, 6  # SentencePiece piece types


class Tokenizer(Protocol):
    eos: int
    pad: int
    ends: frozenset[int]  # tokens with which a reply is over

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

    code = "ChatGLM-6B's later code"
    pieces = ("<unk>", "<s>", "</s>", "<pad>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>")
    max_blank = 80
    first = 0  # id of the first piece

    def __init__(self, path: Path) -> None:
        self.model = self.read(path)
        ids = {name: self.model.piece_to_id(name) for name in self.pieces}
        missing = [name for name, found in ids.items() if found == ids["<unk>"] and name != "<unk>"]
        if missing:
            raise ValueError(f"{path.name} has no piece {', '.join(missing)}: not a tokenizer of {self.code}")
        self.special = frozenset(self.first + i for i in ids.values())
        self.mask, self.gmask, self.bos, self.eos, self.pad = (
            self.first + ids[name] for name in ("[MASK]", "[gMASK]", "<sop>", "<eop>", "<pad>")
        )
        self.ends = frozenset((self.eos,))

    def read(self, path: Path) -> SentencePieceProcessor:
        return SentencePieceProcessor(model_file=str(path))

    def encode(self, text: str) -> list[int]:
        text = text.replace("\n", "<n>").replace("\t", "<|tab|>")
        for size in range(self.max_blank, 1, -1):
            text = text.replace(" " * size, f"<|blank_{size}|>")
        ids = [self.first + i for i in self.model.encode(text)]
        return [i for i in ids if i not in self.special]

    def prompt(self, text: str) -> list[int]:
        return [*self.encode(text), self.gmask, self.bos]

    def decode(self, ids: Sequence[int]) -> str:
        found = [i - self.first for i in ids if i not in self.special]
        text = self.model.decode([i for i in found if 0 <= i < self.model.vocab_size()])
        text = text.replace("<n>", "\n").replace("<|tab|>", "\t")
        return re.sub(r"<\|blank_(\d+)\|>", lambda found: " " * int(found[1]), text)


class EarlyChatGLMTokenizer(ChatGLMTokenizer):
    """ChatGLM-6B, early code: ids stand behind those of 20,000 image tokens, and the file lacks what the code adds.

    MediaBrain-SJTU/MedicalGPT-zh ``src/model/tokenization_chatglm.py``. Goes with a config that names no mask ids.
    """

    code = "ChatGLM-6B's early code"
    first = 20_000
    controls = ("[MASK]", "[gMASK]", "[sMASK]", "<unused_0>", "<sop>", "<eop>", "<ENC>", "<dBLOCK>")

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        # The model's own padding is an image token, which no text holds; upstream's <pad> stands among the text.
        self.pad = 3

    def read(self, path: Path) -> SentencePieceProcessor:
        from sentencepiece import sentencepiece_model_pb2  # nothing else needs protobuf

        stored = super().read(path)
        if stored.piece_to_id("[MASK]") != stored.unk_id():
            raise ValueError(f"{path.name} has the piece [MASK] already: not a tokenizer of {self.code}")
        model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]  # made when imported
        model.ParseFromString(stored.serialized_model_proto())
        blanks = ["<|tab|>", *(f"<|blank_{size}|>" for size in range(2, self.max_blank + 1))]
        rows = (CONTROL, self.controls), (USER_DEFINED, blanks), (BYTE, [f"<0x{n:02X}>" for n in range(256)])
        for kind, names in rows:
            for name in names:
                model.pieces.add(piece=name, score=0.0, type=kind)
        model.trainer_spec.byte_fallback = True
        return SentencePieceProcessor(model_proto=model.SerializeToString())


class BaichuanTokenizer:
    """Baichuan-13B (`tokenizer.model`): a prompt's markers stand in its text, and what is between is encoded alone.

    The published vocabulary puts a blank before every text it is given, so the ids of a message show whether it was
    encoded alone; upstream does so (``build_chat_input``). Nothing begins or ends a prompt but its own markers.
    """

    markers = ("<reserved_102>", "<reserved_103>", "</s>")  # the visitor speaks, the doctor speaks, the doctor is done

    def __init__(self, path: Path) -> None:
        self.model = SentencePieceProcessor(model_file=str(path))
        self.ids = dict(zip(self.markers, map(self.model.piece_to_id, self.markers), strict=True))
        self.pad = self.model.unk_id()  # upstream pads with the unknown piece
        missing = [name for name, found in self.ids.items() if found == self.pad]
        if missing:
            raise ValueError(f"{path.name} has no piece {', '.join(missing)}: not a tokenizer of Baichuan-13B")
        self.eos = self.ids["</s>"]
        self.ends = frozenset((self.eos, self.ids["<reserved_102>"]))  # or it goes on to speak for the visitor
        self.special = frozenset(
            i
            for i in range(self.model.vocab_size())
            if self.model.is_control(i) or i == self.pad or self.model.id_to_piece(i).startswith("<reserved_")
        )

    def encode(self, text: str) -> list[int]:
        # SentencePiece itself finds the reserved pieces in a text.
        return [i for i in self.model.encode(text) if i not in self.special]

    def prompt(self, text: str) -> list[int]:
        parts = re.split(f"({'|'.join(self.markers)})", text)
        return [i for part in parts for i in ([self.ids[part]] if part in self.ids else self.encode(part))]

    def decode(self, ids: Sequence[int]) -> str:
        return self.model.decode([i for i in ids if i not in self.special and i < self.model.vocab_size()])


class T5Tokenizer:
    """T5 (`spiece.model`): a prompt ends in ``</s>``; the 100 ``<extra_id_…>`` behind the pieces are never made."""

    def __init__(self, path: Path) -> None:
        self.model = SentencePieceProcessor(model_file=str(path))
        self.eos, self.pad = self.model.eos_id(), self.model.pad_id()
        self.ends = frozenset((self.eos,))
        self.special = frozenset((self.eos, self.pad, self.model.unk_id()))

    def encode(self, text: str) -> list[int]:
        # An unknown piece is the model's honest "some character", not a control token: it stays.
        return self.model.encode(text)

    def prompt(self, text: str) -> list[int]:
        return [*self.encode(text), self.eos]

    def decode(self, ids: Sequence[int]) -> str:
        kept = [i for i in ids if i not in self.special and i < self.model.vocab_size()]
        return self.model.decode(kept).strip()
