"""The folder of a run: `run.json` says what was asked for, `rows.jsonl` grows by a line a row and survives a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, get_args

from bianque.data.formats import ASPECTS, Judged
from bianque.errors import BadInput, BianQueError
from bianque.evaluate.rows import Row, Task
from bianque.types import Message

try:
    import fcntl
except ImportError:  # Windows has no flock; there two processes are not kept apart
    fcntl = None  # type: ignore[assignment]

RUN, ROWS, METRICS, REPORT, LOCK = "run.json", "rows.jsonl", "metrics.json", "report.html", ".lock"
FACTS = ("started", "finished", "openings", "versions", "kernels", "licences", "command")
Key = tuple[str, str, str, int, str]
Question = Mapping[str, Any]  # what a run was asked for, as JSON has it

_TEXTS = ("answer", "raw", "error", "code", "reference", "phase", "finish")
_NUMBERS = ("first", "seconds", "tokens")


class Store:
    """A run's folder while one process has it: the rows that are there, and where a new one is added.

    `with Store.open(folder, question) as store:`; of two rows with one key the later one counts.
    """

    def __init__(self, folder: Path, run: dict[str, Any], lock: IO[bytes]) -> None:
        self.folder, self.run, self._lock = folder, run, lock
        self.rows = {row.key: row for row in _settled(folder / ROWS)}
        self._file = (folder / ROWS).open("ab", buffering=0)

    @classmethod
    def open(cls, folder: Path, question: Question, fresh: bool = False, later: Collection[str] = ()) -> Store:
        """Begin a run, or go on with one that was asked the same.

        `later` names fields that may be None at first, and are kept once they are known; `fresh` forgets what is there.
        BadInput names the field that differs, a folder that cannot be one, a process that has it, or a broken line.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = _locked(folder)
        except OSError as error:
            raise BadInput(f"{folder}: 不能用作结果文件夹 (cannot be the run's folder): {error.strerror}") from None
        try:
            asked = json.loads(json.dumps(question))
            if fresh:
                for name in (ROWS, RUN, METRICS, REPORT):  # the question last: without it the rows belong to nothing
                    (folder / name).unlink(missing_ok=True)
            run = _agreed(folder, asked, later)
            write_json(folder / RUN, run)
            return cls(folder, run, lock)
        except BaseException:
            lock.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self._lock.close()  # and with it the lock goes

    def note(self, **facts: Any) -> None:
        """Keep FACTS in run.json, which no later question is compared with."""
        assert set(facts) <= set(FACTS), f"{sorted(facts)}: facts are {FACTS}"
        self.run |= facts
        write_json(self.folder / RUN, self.run)

    def finished(self, key: Key) -> Row | None:
        """The row of this key if it has an answer; one that failed is to be tried again."""
        row = self.rows.get(key)
        return row if row and row.error is None else None

    def append(self, *rows: Row) -> None:
        """Add rows; once this returns they are on the disk. What could not be written whole leaves no trace."""
        lines = b"".join(_line(row) for row in rows)
        size = os.fstat(self._file.fileno()).st_size
        try:
            rest = memoryview(lines)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(size)
            raise BianQueError(
                f"{self.folder / ROWS}: 写不了 (cannot be written): {error.strerror}；腾出空间后用同样的命令继续 "
                "(make room, then run the same command again)"
            ) from None
        self.rows |= {row.key: row for row in rows}


def read(folder: Path) -> list[Row]:
    """The rows of a run, the latest of each key, without changing or locking anything; a torn last line is no row."""
    path = Path(folder) / ROWS
    whole, _, torn = _bytes(path).rpartition(b"\n")
    rows = _parsed(whole, path)
    if torn and (last := _torn(torn)):
        rows.append(last)
    return list({row.key: row for row in rows}.values())


def write_json(path: Path, value: Any) -> None:
    """Write a whole file or leave the old one: a kill cannot tear it."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise BianQueError(f"{path}: 写不了 (cannot be written): {error.strerror}") from None


# --- a run's question ---------------------------------------------------------------------------------------------


def _locked(folder: Path) -> IO[bytes]:
    """The folder's lock, held until the file is closed; the system lets go of it when a process dies."""
    lock = (folder / LOCK).open("ab")
    if fcntl:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise BadInput(
                f"{folder}: 另一个进程正在这里评测，请等它结束或换一个文件夹 "
                "(another process is evaluating here: wait for it or choose another folder)"
            ) from None
    return lock


def _agreed(folder: Path, asked: dict[str, Any], later: Collection[str]) -> dict[str, Any]:
    """What run.json shall say: the question, with the facts kept before if this one goes on with an older run."""
    path = folder / RUN
    if not path.exists():
        if _size(folder / ROWS):
            raise BadInput(
                f"{folder}: 有 {ROWS} 却没有 {RUN}，不知道是怎么得来的：请换一个文件夹或用 --fresh "
                f"({ROWS} without {RUN}: choose another folder or --fresh)"
            )
        return asked
    try:
        old = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(
            f"{path}: 读不懂 (cannot be read: {type(error).__name__})；请换一个文件夹或用 --fresh "
            "(choose another folder or --fresh)"
        ) from None
    facts = {name: old.pop(name) for name in FACTS if name in old}
    for field in later:
        if asked.get(field) is None or old.get(field) is None:
            known = asked.get(field) if old.get(field) is None else old[field]
            old[field] = asked[field] = known
    if difference := _difference(old, asked):
        field, before, now = difference
        raise BadInput(
            f"{folder}: 这里的评测与这次要求的不同 (was asked something else): {field} {_short(before)} → {_short(now)}；"
            "请换一个文件夹，或用 --fresh 从头开始 (choose another folder, or begin anew with --fresh)"
        )
    return asked | facts


def _difference(old: Any, new: Any, at: str = "") -> tuple[str, Any, Any] | None:
    """The first field in which two JSON values differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            if found := _difference(old.get(name), new.get(name), f"{at}.{name}" if at else name):
                return found
        return None
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return next((found for i, pair in pairs if (found := _difference(*pair, f"{at}[{i}]"))), None)
    return None if old == new else (at, old, new)


def _short(value: Any) -> str:
    written = json.dumps(value, ensure_ascii=False)
    return written if len(written) <= 120 else f"{written[:117]}..."


# --- rows as lines ------------------------------------------------------------------------------------------------


def _line(row: Row) -> bytes:
    """A row as one line of JSON; what it has not is left out."""
    fields = {name: value for name, value in asdict(row).items() if value is not None}
    fields["history"] = [{k: v for k, v in turn.items() if v is not None} for turn in fields["history"]]
    try:
        return json.dumps(fields, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair: JSON can write it, UTF-8 cannot
        return json.dumps(fields, allow_nan=False).encode() + b"\n"


def _row(line: bytes) -> Row:
    """A row from its line; ValueError says what is wrong with it."""
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    if found.get("task") not in get_args(Task):
        raise ValueError(f"task is {found.get('task')!r}")
    _check(found, ("set", "id", "model"), str, needed=True)
    _check(found, ("turn",), int, needed=True)
    _check(found, _TEXTS, str)
    _check(found, _NUMBERS, (int, float))
    if ("answer" in found) == ("error" in found):
        raise ValueError("neither answer nor error, or both")
    try:
        found["history"] = tuple(Message(**turn) for turn in found["history"])
        if found.get("judged") is not None:
            found["judged"] = _judged(found["judged"])
        return Row(**found)
    except (KeyError, TypeError) as error:
        raise ValueError(f"fields do not fit: {error}") from None


def _judged(given: dict[str, Any]) -> Judged:
    judged = Judged(**given)
    scores = judged.scores
    if scores is not None and not (
        isinstance(scores, dict) and all(isinstance(score, int | float) for score in scores.values())
    ):
        raise TypeError(f"scores are no numbers for {', '.join(ASPECTS)}")
    return judged


def _check(found: dict[str, Any], names: Iterable[str], kind: Any, needed: bool = False) -> None:
    for name in names:
        if (needed or name in found) and (not isinstance(found.get(name), kind) or isinstance(found.get(name), bool)):
            raise ValueError(f"{name} is {_short(found.get(name))}")


def _settled(path: Path) -> list[Row]:
    """All rows of the file, whose end is mended first: a last line that a kill has torn is cut off."""
    content = _bytes(path)
    whole, newline, torn = content.rpartition(b"\n")
    rows = _parsed(whole, path)
    if torn:
        last = _torn(torn)
        with path.open("r+b") as file:
            if last:  # only its end of line is missing
                file.seek(0, os.SEEK_END)
                file.write(b"\n")
                rows.append(last)
            else:
                file.truncate(len(whole) + len(newline))
            file.flush()
            os.fsync(file.fileno())
    return rows


def _torn(line: bytes) -> Row | None:
    try:
        return _row(line)
    except ValueError:
        return None


def _parsed(content: bytes, path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            try:
                rows.append(_row(line))
            except ValueError as error:
                raise BadInput(
                    f"{path}:{number}: 不是一行完整的结果 (not a row: {error})；请改好或删掉这一行，或用 --fresh 从头开始 "
                    "(mend or delete the line, or begin anew with --fresh)"
                ) from None
    return rows


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise BadInput(f"{path}: 读不了 (cannot be read): {error.strerror}") from None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
