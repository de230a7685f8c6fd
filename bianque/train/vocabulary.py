"""SentencePiece models in the two layouts that the published checkpoints use."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2

NORMAL, CONTROL, USER_DEFINED, BYTE = 1, 3, 4, 6  # SentencePiece piece types


def train(texts: Iterable[str], path: Path, size: int, **layout: Any) -> None:
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(path.with_suffix("")),
        vocab_size=size,
        model_type="unigram",
        # Full-width punctuation is how Chinese is written; upstream's NFKC would make it half-width.
        normalization_rule_name="identity",
        character_coverage=0.9998,
        max_sentencepiece_length=8,
        num_threads=4,
        hard_vocab_limit=False,  # a small corpus gives the pieces it has
        minloglevel=2,
        **layout,
    )
    path.with_suffix(".vocab").unlink()
    path.with_suffix(".model").rename(path)


def train_spiece(texts: Iterable[str], path: Path, size: int) -> None:
    r"""T5's layout: <pad> 0, </s> 1, <unk> 2; ``\n`` and ``\t`` (two characters each, as BianQue-1.0 escapes them)."""
    train(texts, path, size, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, user_defined_symbols=["\\n", "\\t"])


def train_ice_text(texts: Iterable[str], path: Path, size: int) -> None:
    """ChatGLM-6B's layout, later code: pieces, then [MASK] … <dBLOCK>, then tab and blanks, then the 256 bytes."""
    train(texts, path, size, unk_id=0, bos_id=1, eos_id=2, pad_id=3, user_defined_symbols=["<n>"])
    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]  # made when imported
    model.ParseFromString(path.read_bytes())
    controls = ["[MASK]", "[gMASK]", "[sMASK]", "<unused_0>", "<sop>", "<eop>", "<ENC>", "<dBLOCK>"]
    blanks = ["<|tab|>", *(f"<|blank_{n}|>" for n in range(2, 81))]
    rows = [(controls, CONTROL), (blanks, USER_DEFINED), ([f"<0x{n:02X}>" for n in range(256)], BYTE)]
    for pieces, kind in rows:
        for piece in pieces:
            model.pieces.add(piece=piece, score=0.0, type=kind)
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.vocab_size = len(model.pieces)
    path.write_bytes(model.SerializeToString())
