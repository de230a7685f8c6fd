"""Files → records: JSONL, JSON lists and objects, CSV, MedDG's pickles and MedDialog's text, in the encodings they come in.

Records come one after another, so that a file of gigabytes needs little memory. Each is read by itself: where one is
damaged a `Flaw` stands in its place, and reading goes on behind it.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import json
import os
import pickle
import re
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, NoReturn, TextIO

from bianque.data.dialogues import Bilingual, Flaw, loads, no_json
from bianque.errors import BadInput

_DECODER = json.JSONDecoder()
_GAP = re.compile(r"[\s,]*")
_FIRST = re.compile(r'\{\s*"[^"\n]{0,60}"')
_ID = re.compile(r"\s*id\s*=")
_SECTIONS = {  # of MedDialog's raw text
    "Description": "description",
    "Dialogue": "dialogue_text",
    "Doctor faculty": "",
    "Diagnosis and suggestions": "",
}
SAMPLE = 1 << 20  # bytes that the encoding is told by, where a file is not held as a whole
LONGEST = 1 << 25  # characters that one item of a JSON list may have
PICKLES = (".pk", ".pkl", ".pickle")
SHARED = 16  # values that a pickle may hold for each of its bytes, where one stands in several places
DAMAGE = 20  # wrong bytes of JSON that may be damage; more are another encoding
Unit = Literal["line", "row", "item"]


class Item(NamedTuple):
    number: int
    value: Any  # a JSON value, or the Flaw that stood in its place


class Records(NamedTuple):
    """The records of a file, what they are counted in, and remarks on its encoding.

    `number` counts lines of JSONL, items of a JSON list, and rows of a CSV as a spreadsheet shows them (the first
    below the header is 2), from 1.
    """

    items: Iterator[Item]
    unit: Unit
    remarks: tuple[str, ...] = ()


def held(path: Path, most: int) -> Records:
    """Of a file that has at most `most` bytes once decompressed and is sound text; BadInput otherwise."""
    with _readable(path), _opened(path) as source:
        content = source.read(most + 1)
    if len(content) > most:
        size = f"{most / 1e6:g} MB"
        raise BadInput(f"{path.name}: 解压后超过 {size}，请拆成几个文件 (is over {size} once decompressed: split it)")
    if _is_pickle(content, path):
        raise BadInput(
            f"{path.name}: 是 pickle，请先用 python -m bianque corpus 转成 JSONL (a pickle: convert it with `corpus` first)"
        )
    encoding, remarks = _encoding(content, path.name)
    return Records(*_records(io.StringIO(content.decode(encoding, "replace"), newline=""), path.name), remarks)


@contextmanager
def streamed(path: Path) -> Iterator[Records]:
    """Of a file of any size; a record with bytes that are no text is read with halves of surrogate pairs in it."""
    with _readable(path), _opened(path) as source:
        beginning = source.read(SAMPLE)
    with _readable(path), _opened(path) as source:
        if _is_pickle(beginning, path):
            yield Records(_pickled(source, path.name), "item")
            return
        encoding, remarks = _encoding(beginning, path.name, whole=False)
        if b"\0" in beginning and encoding != "utf-16":
            raise BadInput(f"{path.name}: 不是文字，不像对话的文件 (is no text: not a file of dialogues)")
        wrong = "replace" if encoding == "utf-16" else "surrogateescape"  # which UTF-16 does not know
        text = io.TextIOWrapper(source, encoding, errors=wrong, newline="")
        yield Records(*_records(text, path.name), remarks)


def read_text(path: Path, most: int = 20_000_000) -> str:
    """A file's text, whatever its encoding and line breaks."""
    with _readable(path), _opened(path) as source:
        content = source.read(most)
    encoding, _ = _encoding(content, path.name)
    return str(content.decode(encoding, "replace")).replace("\r\n", "\n").replace("\r", "\n")


# --- bytes → text -------------------------------------------------------------------------------------------------


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise BadInput(f"{path.name}: 读不了 (cannot be read): {why}") from error


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, decompressed."""
    with open(os.path.expanduser(path), "rb") as opened:
        zipped = opened.read(2) == b"\x1f\x8b"
        opened.seek(0)
        if zipped:
            with gzip.GzipFile(fileobj=opened) as unpacked:
                yield unpacked
        else:
            yield opened


def _encoding(content: bytes, name: str, whole: bool = True) -> tuple[str, tuple[str, ...]]:
    """UTF-8, UTF-16 with its mark, or GB18030 for what has more wrong than right characters as UTF-8, JSON many of them.

    Of a file's beginning (not `whole`) the last character may be cut off. BadInput for what was saved in its place.
    """
    if content.startswith(b"version https://git-lfs"):
        raise BadInput(
            f"{name}: 只是 Git LFS 指针，没有内容：请用 git lfs pull 或 hf download 下载真正的文件 "
            "(a Git LFS pointer, not the file: download it with git lfs pull or hf download)"
        )
    if content[:200].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise BadInput(f"{name}: 是一个网页，不是数据：请重新下载 (a saved web page, not the data: download it again)")
    if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and content[2:]:
        return "utf-16", ("按 UTF-16 编码读取 (read as UTF-16)",)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content, whole)
    except UnicodeDecodeError as error:
        tried = content.decode("utf-8", "replace")
        wrong = tried.count("�")
        foreign = sum(character > "\x7f" for character in tried) - wrong
        if wrong > (max(foreign, DAMAGE) if content.lstrip()[:1] in (b"[", b"{") else foreign):
            try:
                codecs.getincrementaldecoder("gb18030")("strict" if whole else "replace").decode(content, whole)
                return "gb18030", ("按 GB18030 编码读取 (read as GB18030)",)
            except UnicodeDecodeError:
                pass
        if whole:
            raise _not_utf_8(name, content, error) from error
    return "utf-8-sig", ()


def _not_utf_8(name: str, content: bytes, error: UnicodeDecodeError) -> BadInput:
    line = content.count(b"\n", 0, error.start) + 1
    return BadInput(
        f"{name}: 第 {line} 行不是 UTF-8，请另存为 UTF-8 (line {line} is not UTF-8: save the file as UTF-8)"
    )


# --- text → records -----------------------------------------------------------------------------------------------


def _records(text: TextIO, name: str) -> tuple[Iterator[Item], Unit]:
    """By the first character that is no white space: a JSON list, JSONL or one object, MedDialog's text, or a CSV."""
    number, first = 1, text.readline(SAMPLE)
    while first and not first.strip():
        number, first = number + first.endswith(("\n", "\r")), text.readline(SAMPLE)
    if not first:
        raise BadInput(f"{name}: 是空的 (is empty)")
    if first.lstrip()[0] == "[":
        return _lists(number, first, text)
    first += "" if first.endswith(("\n", "\r")) else text.readline()
    if first.lstrip()[0] == "{":
        return _objects(number, first, text)
    if first != first.encode(errors="replace").decode():
        raise BadInput(
            f"{name}: 第 {number} 行不是文字，不像对话的文件 (line {number} is no text: not a file of dialogues)"
        )
    if _ID.match(first):
        return _consultations(first, text), "item"
    return _table(first, text, name), "row"


def _value(line: str) -> Any:
    try:
        return loads(line)
    except Flaw as flaw:
        return flaw


def _objects(number: int, first: str, text: TextIO) -> tuple[Iterator[Item], Unit]:
    """The lines of JSONL, each of its own; or one object over several lines, which may hold all by their ids."""
    value, numbered = _value(first), enumerate(text, number + 1)
    second = next(((place, line) for place, line in numbered if line.strip()), None)
    if second is None:
        return iter(_by_id(number, value)), "line"
    if isinstance(value, Flaw) and not second[1].lstrip().startswith("{"):
        return iter(_by_id(1, _value(first + second[1] + text.read()))), "item"
    more = itertools.chain([second], numbered)
    items = (Item(place, _value(line)) for place, line in more if line.strip())
    return itertools.chain([Item(number, value)], items), "line"


def _lists(number: int, first: str, text: TextIO) -> tuple[Iterator[Item], Unit]:
    """One JSON list of all records, or lines of JSON lists, a dialogue each."""
    value = _value(first) if first.endswith(("\n", "\r")) else None
    if not isinstance(value, list):
        return _listed(first.lstrip(), text), "item"
    lines = ((place, line) for place, line in enumerate(text, number + 1) if line.strip())
    second = next(lines, None)
    if second is None or not second[1].lstrip().startswith("["):
        rest = [] if second is None else [no_json("Extra data")]
        return (Item(place, item) for place, item in enumerate([*value, *rest], 1)), "item"
    items = (Item(place, _value(line)) for place, line in itertools.chain([second], lines))
    return itertools.chain([Item(number, value)], items), "line"


def _by_id(number: int, value: Any) -> list[Item]:
    """IMCS and others keep all records in one object: its values, each with its key as `id`."""
    if isinstance(value, dict) and value and all(isinstance(record, dict) for record in value.values()):
        return [Item(place, {"id": key, **record}) for place, (key, record) in enumerate(value.items(), 1)]
    return [Item(number, value)]


def _listed(buffer: str, text: TextIO) -> Iterator[Item]:
    """The items of one JSON list, read piece by piece; behind a broken one it goes on at the next that looks like it."""
    place, number, ended = 1, 0, False
    while True:
        place = _GAP.match(buffer, place).end()  # type: ignore[union-attr]  # which matches nothing, too
        value, end = _decoded(buffer, place)
        closed, broken = buffer.startswith("]", place), isinstance(value, Flaw)
        # What touches the end of what was read, or is broken, may go on there.
        if not ended and (end >= len(buffer) or (broken and not closed and len(buffer) - place < LONGEST)):
            more = text.read(max(SAMPLE, len(buffer) - place))
            buffer, place, ended = buffer[place:] + more, 0, not more
            continue
        if closed:
            if (buffer[place + 1 :] + ("" if ended else text.read(SAMPLE))).strip():
                yield Item(number + 1, no_json("Extra data"))
            return
        number += 1
        yield Item(number, value)
        found = _next_like(buffer, place) if broken else end
        if found is None:
            return
        place = found


def _decoded(buffer: str, place: int) -> tuple[Any, int]:
    """The JSON value that begins here and where it ends; a Flaw ends where it begins."""
    try:
        return _DECODER.raw_decode(buffer, place)
    except (ValueError, RecursionError) as error:
        return no_json(getattr(error, "msg", error)), place


def _next_like(buffer: str, place: int) -> int | None:
    """Where the next item begins behind a broken one: with the same first key, and on a line of its own if that was."""
    begun = _FIRST.match(buffer, place)
    first = re.escape(begun[0]) if begun else r"[\[{]"
    line = re.search(r"\n[ \t]*$", buffer[max(0, place - 200) : place])
    before = re.escape(line[0]) if line else r"[,\s]"
    found = re.compile(f"{before}({first})").search(buffer, place + 1)
    return found.start(1) if found else None


def _table(first: str, text: TextIO, name: str) -> Iterator[Item]:
    """The rows of a CSV with a header, as objects; parted by commas, or by what parts its header."""
    delimiter = max(",\t;", key=first.count)
    try:
        header = [column.strip() for column in next(csv.reader([first], delimiter=delimiter))]
    except csv.Error as error:
        raise BadInput(f"{name}: 第一行不是表头 (the first line is no header): {error}") from None
    waiting, taken, number = deque[str](), list[str](), 1

    def lines() -> Iterator[str]:
        while line := waiting.popleft() if waiting else text.readline():
            taken.append(line)
            yield line

    while True:
        try:
            for cells in csv.reader(lines(), strict=True, delimiter=delimiter):
                number += 1
                taken.clear()
                if any(map(str.strip, cells)):
                    yield Item(number, _row(header, cells))
            break
        except csv.Error as error:
            number += 1
            wrong = Bilingual(f"不是合法的 CSV（{error}）", f"not valid CSV ({error})")
            yield Item(number, Flaw("", wrong, Bilingual("请检查引号", "check the quotation marks")))
            waiting.extendleft(reversed(taken[1:]))  # an open quotation mark takes in the rows behind its own
            taken.clear()
    if number == 1:
        raise BadInput(f"{name}: 只有表头 (holds a header and no row)")


def _row(header: list[str], cells: list[str]) -> dict[str, str] | Flaw:
    if len(cells) < len(header) or any(map(str.strip, cells[len(header) :])):
        wrong = Bilingual(
            f"有 {len(cells)} 列，表头有 {len(header)} 列", f"has {len(cells)} cells, the header {len(header)}"
        )
        return Flaw("", wrong, Bilingual("请检查逗号与引号", "check commas and quotation marks"))
    return dict(zip(header, cells, strict=False))


# --- two formats of their own -------------------------------------------------------------------------------------


def _consultations(first: str, text: TextIO) -> Iterator[Item]:
    """MedDialog's raw text: `id=…`, an address, then sections, of which Description and Dialogue are kept."""
    lines, number = [first], 0
    for line in itertools.chain(text, ["id="]):
        if _ID.match(line):
            number += 1
            yield Item(number, _consultation(lines))
            lines = []
        lines.append(line)


def _consultation(lines: list[str]) -> dict[str, str]:
    found = {"id": lines[0].partition("=")[2].strip(), "description": "", "dialogue_text": ""}
    section = ""
    for line in lines[1:]:
        if line.strip() in _SECTIONS:
            section = _SECTIONS[line.strip()]
        elif section:
            found[section] += line
    return found


class _Plain(pickle._Unpickler):
    """Lists, objects, texts and numbers alone: a pickle that names a class, and so could run code, is refused.

    Written in Python: the C one makes room for as many remembered values as the file says.
    """

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"{module}.{name}")


def _check_plain(whole: Any, most: int) -> None:
    """UnpicklingError for what JSON could not hold, or for more than `most` values: a list may hold another many times."""
    left = [whole]
    while left:
        value, most = left.pop(), most - 1
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            left.extend(value.values())
        elif isinstance(value, list | tuple):
            left.extend(value)
        elif not (value is None or isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 2**63)):
            raise pickle.UnpicklingError(type(value).__name__)
        if most < 0:
            raise pickle.UnpicklingError("lists within lists without end")


def _is_pickle(content: bytes, path: Path) -> bool:
    return content[:1] == b"\x80" or path.name.lower().removesuffix(".gz").endswith(PICKLES)


def _pickled(source: IO[bytes], name: str) -> Iterator[Item]:
    try:
        whole = _Plain(source, encoding="utf-8").load()
        _check_plain(whole, SHARED * source.tell())
    except pickle.UnpicklingError as error:
        raise BadInput(
            f"{name}: 这个 pickle 不只是文字、数字与列表，可能会运行代码，已拒绝 (refused: it holds more than plain data): {error}"
        ) from None
    except OSError:
        raise
    except Exception as error:  # its reader meets damage with whatever it stumbles over
        raise BadInput(f"{name}: pickle 已损坏 (a damaged pickle): {type(error).__name__}") from error
    if not isinstance(whole, list):
        raise BadInput(f"{name}: pickle 里是 {type(whole).__name__}，需要列表 (a list of dialogues is needed)")
    return (Item(number, value) for number, value in enumerate(whole, 1))
