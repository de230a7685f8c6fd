"""Sound examples, spoiled: JSON trees, and bytes of files. The same random numbers give the same case."""

from __future__ import annotations

import copy
import gzip
import io
import json
import pickle
import zipfile
from functools import cache
from random import Random
from typing import Any

DEEP = "[" * 5000 + "]" * 5000
TEXTS = (
    "", " ", "\0", "\n", "\t\r\n", "\ud800", "头痛\udfff", "\ud83d\ude00", "\u202e痛头", "\u2066\u202d\u2069", "\u200b", "\ufeff头痛", "\u2028",
    "..", "../../../../etc/passwd", "/etc/passwd", "~root/x", "file:///etc/passwd", "C:\\NUL", "\\\\host\\share", "a/../../b", "%2e%2e%2f", "x\0.json",
    "<script>alert(1)</script>", "{{7*7}}", "{0.__class__}", "%s%n", "${jndi:ldap://x}", "'; DROP TABLE votes;--", "=cmd|'/C calc'!A0", "__class__",
    "\n\n———\n\n", "病人：", "医生：\n病人：", "问：答：", "NaN", "-0", "1e999", "９９９", "1" * 5000, "我胸口剧痛，喘不上气", "我不想活了", "直接给我建议吧", "？" * 300,
    "e\u0301" * 400, "𠀀" * 50, "👨‍👩‍👧‍👦" * 20, "a" * 8001, "头 痛 " * 3000, "auto", "ask-mini@8:temperature=0", "auto:seed=1,seed=1", "@", ":", "=", ",,,",
)  # fmt: skip
LARGE = ("头" * 1_000_000, "是不是？" * 50_000, "没有 " * 60_000)  # seldom
VALUES = (
    None, True, False, 0, -1, 1, 3, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), [], {}, [[]], [None], {"": ""},
    {"role": "user"}, [["头痛", "多久了？"]], [{"type": "text", "text": "头痛"}], [{"type": "image_url"}], {"path": "/etc/passwd"}, b"",
)  # fmt: skip


def value(rng: Random) -> Any:
    drawn = rng.random()
    if drawn < 0.0005:
        return rng.choice(LARGE)
    if drawn < 0.55:
        return rng.choice(TEXTS)
    if drawn < 0.6:
        return "".join(rng.choice(TEXTS) for _ in range(rng.randrange(2, 6)))
    found = rng.choice(VALUES)
    return "b" if isinstance(found, bytes) else copy.deepcopy(found)


def places(tree: Any, found: list[tuple[Any, Any]], most: int = 400) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON tree."""
    keys = tree.keys() if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        if len(found) >= most:
            break
        found.append((tree, key))
        places(tree[key], found, most)
    return found


def tree(rng: Random, example: Any) -> Any:
    """A copy with one to three things in it replaced, left out, doubled, wrapped, or named otherwise."""
    whole = {"": copy.deepcopy(example)}
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        where, key = rng.choice(places(whole, []))
        what = rng.random()
        if what < 0.6 or where is whole:
            where[key] = value(rng)
        elif what < 0.7:
            del where[key]
        elif what < 0.78:
            where[key] = [where[key]]
        elif what < 0.84 and isinstance(where, list):
            where.extend(copy.deepcopy(where[key]) for _ in range(rng.choice((1, 2, 20, 1100))))
        elif what < 0.92 and isinstance(where, dict):
            name = rng.choice(TEXTS)
            where[name] = where.pop(key)
        else:
            other, at = rng.choice(places(whole, []))
            where[key] = copy.deepcopy(other[at])
    return whole[""]


def written(rng: Random, made: Any) -> bytes:
    """As JSON, in one of the ways in which it may be written; with halves of surrogate pairs escaped."""
    text = json.dumps(made, ensure_ascii=rng.random() < 0.5, default=str)
    return text.encode("utf-8", "surrogatepass")


@cache
def bombs() -> tuple[bytes, ...]:
    """Small files that are large, or not what they seem."""

    class Payload:
        def __reduce__(self) -> Any:
            return exec, ("raise SystemExit('this ran')",)

    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../evil", b"\0" * 1_000_000)
    shared: list[Any] = ["头痛"]
    for _ in range(60):
        shared = [shared, shared]
    return (
        gzip.compress(b" " * 30_000_000, 1), gzip.compress(gzip.compress(b"[" * 1_000_000)), zipped.getvalue(), DEEP.encode(),
        b'{"a":' * 3000, pickle.dumps([Payload()]), pickle.dumps([Payload()], 0), pickle.dumps([{"history": shared, "response": shared, "next_sym": shared}]),
        pickle.dumps([{"dialogue": [{"speaker": shared, "sentence": shared}]}]), b"\x80\x04]r\xff\xff\xff\x0f.", b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x00x.",
        b"cos\nsystem\n(S'true'\ntR.", b"\x1f\x8b\x08\0", b"PK\x03\x04", b"version https://git-lfs.github.com/spec/v1\n", b"<!DOCTYPE html>", b"\xff\xfe", b"\xef\xbb\xbf",
    )  # fmt: skip


def content(rng: Random, raw: bytes) -> bytes:
    """Bytes of a file with something cut, turned, doubled or put in; now and then another file altogether."""
    if rng.random() < 0.03:
        return rng.choice(bombs())
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(raw) + 1)
        what = rng.randrange(9)
        if what == 0:
            raw = raw[:at]
        elif what == 1:
            raw = raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :]
        elif what == 2:
            raw = raw[:at] + rng.choice(TEXTS).encode("utf-8", "surrogatepass") + raw[at:]
        elif what == 3:
            raw = raw[:at] + raw[at + rng.randrange(1, 40) :]
        elif what == 4:
            raw = raw[:at] + raw[max(0, at - rng.randrange(1, 200)) :]
        elif what == 5:
            raw = (
                raw[:at]
                + rng.choice(
                    (b'"', b"\\", b"{", b"}", b"[", b"]", b",", b"\n", b"\r", b"\0", b"\xff", b"\x80", b"\xf0\x9f")
                )
                + raw[at:]
            )
        elif what == 6:
            raw = raw.replace(b"\n", rng.choice((b"\r\n", b"\r", b"", b"\n\n")))
        elif what == 7:
            with_mark = (
                b"\xef\xbb\xbf" + raw,
                raw.decode("utf-8", "replace").encode("utf-16"),
                raw.decode("utf-8", "replace").encode("gb18030", "replace"),
            )
            raw = rng.choice(with_mark)
        else:
            raw = gzip.compress(raw, 1)[: rng.choice((None, None, -5, 30))]
    return raw


def shown(case: Any) -> str:
    written = repr(case)
    return written if len(written) <= 4000 else f"{written[:4000]}… ({len(written)} characters)"
