"""The folder of a run: `run.db` (SQLite) has the question and the rows; `rows.jsonl` and `run.json` are its export.

A row is committed when its reply is whole, so a run that was killed goes on where it was. A folder that has only the
JSONL of an earlier version is imported once.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bianque.data.formats import Judged
from bianque.errors import BadInput, BianQueError
from bianque.evaluate.rows import Row
from bianque.types import Message

DATABASE, LOCK = "run.db", ".lock"
RUN, ROWS, METRICS, REPORT = "run.json", "rows.jsonl", "metrics.json", "report.html"
QUESTION = "question"  # in the table `run`, beside the facts
FACTS = ("started", "finished", "openings", "versions", "kernels", "licences", "command")
Key = tuple[str, str, str, int, str]
Question = Mapping[str, Any]  # what a run was asked for, as JSON has it

SCHEMA = """
CREATE TABLE IF NOT EXISTS run (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rows (
    task TEXT, "set" TEXT, id TEXT, turn INTEGER, model TEXT, line TEXT NOT NULL,
    PRIMARY KEY (task, "set", id, turn, model)
);
"""
PUT_ROW = "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET line = excluded.line"
PUT_FACT = "INSERT INTO run VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"


class Store:
    """A run's folder while one process has it: the rows that are there, and where a new one is added.

    `with Store.open(folder, question) as store:`; of two rows with one key the later one counts.
    """

    def __init__(self, folder: Path, database: sqlite3.Connection, lock: sqlite3.Connection) -> None:
        self.folder, self._database, self._lock = folder, database, lock
        self.run: dict[str, Any] = {}
        self.rows: dict[Key, Row] = {}

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
            if fresh:
                for name in (ROWS, RUN, METRICS, REPORT, f"{DATABASE}-wal", f"{DATABASE}-shm", DATABASE):
                    (folder / name).unlink(missing_ok=True)
            store = cls(folder, _connected(folder / DATABASE), lock)
            try:
                store._begin(json.loads(json.dumps(question)), later)
            except BaseException:
                store._database.close()
                raise
            return store
        except BaseException:
            lock.close()
            raise

    def _begin(self, question: dict[str, Any], later: Collection[str]) -> None:
        """Read what there is, and agree on the question."""
        before = _kept(self._database)
        rows = [_row(line) for line in _lines(self._database)]
        imported = before is None and (self.folder / ROWS).exists()
        if before is None:
            before, rows = _old(self.folder)
        if before is not None:
            question = _agreed(self.folder, before, question, later)
        self.run, self.rows = question, {row.key: row for row in rows}
        with _writing(self.folder, self._database):
            self._database.executemany(PUT_FACT, [(QUESTION, json.dumps(_question(self.run))), *_as_facts(self.run)])
            if imported:
                self._database.executemany(PUT_ROW, map(_as_values, self.rows.values()))
        write_json(self.folder / RUN, self.run)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()
        self._lock.close()  # and with it the lock goes

    def note(self, **facts: Any) -> None:
        """Keep FACTS of the run, which no later question is compared with."""
        assert set(facts) <= set(FACTS), f"{sorted(facts)}: facts are {FACTS}"
        self.run |= facts
        with _writing(self.folder, self._database):
            self._database.executemany(PUT_FACT, _as_facts(facts))

    def finished(self, key: Key) -> Row | None:
        """The row of this key if it has an answer; one that failed is to be tried again."""
        row = self.rows.get(key)
        return row if row and row.error is None else None

    def append(self, *rows: Row) -> None:
        """Add rows, all or none; once this returns a kill cannot lose them."""
        with _writing(self.folder, self._database):
            self._database.executemany(PUT_ROW, map(_as_values, rows))
        self.rows |= {row.key: row for row in rows}

    def export(self, rows: Iterable[Row]) -> None:
        """Write `run.json` and these rows as `rows.jsonl`."""
        write_json(self.folder / RUN, self.run)
        _write(self.folder / ROWS, "".join(f"{line_of(row)}\n" for row in rows))


def read(folder: Path) -> list[Row]:
    """The rows of a run, without changing or locking anything; of JSONL alone, its whole lines."""
    with _reading(folder) as database:
        if database and _kept(database) is not None:
            return [_row(line) for line in _lines(database)]
    return _imported(Path(folder) / ROWS)


def known(folder: Path) -> dict[str, Any] | None:
    """What a run was asked for, without the facts; None where nothing was."""
    with _reading(folder) as database:
        found = _kept(database) if database else None
    found = _old(Path(folder))[0] if found is None else found
    return None if found is None else _question(found)


@contextmanager
def _reading(folder: Path) -> Iterator[sqlite3.Connection | None]:
    path = Path(folder) / DATABASE
    if not path.exists():
        yield None
        return
    with closing(_connected(path, writing=False)) as database:
        yield database


def write_json(path: Path, value: Any) -> None:
    """Write a whole file or leave the old one: a kill cannot tear it."""
    _write(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise BianQueError(f"{path}: 写不了 (cannot be written): {error.strerror}") from None


# --- the database -------------------------------------------------------------------------------------------------


def _locked(folder: Path) -> sqlite3.Connection:
    """The folder's lock, held until it is closed; the system lets go of it when a process dies."""
    lock = sqlite3.connect(folder / LOCK, isolation_level=None, timeout=0, check_same_thread=False)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        lock.close()
        raise BadInput(
            f"{folder}: 另一个进程正在这里评测，请等它结束或换一个文件夹 "
            f"(another process is evaluating here: wait for it or choose another folder): {error}"
        ) from None
    return lock


def _connected(path: Path, writing: bool = True) -> sqlite3.Connection:
    """BadInput if the file is no database of a run."""
    try:
        database = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={'rwc' if writing else 'rw'}", uri=True, check_same_thread=False
        )
        try:
            if writing:  # a commit survives a kill of the process without a sync of the disk
                database.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {SCHEMA}")
            database.execute("SELECT name FROM run LIMIT 1")
        except BaseException:
            database.close()
            raise
        return database
    except sqlite3.Error as error:
        raise BadInput(
            f"{path}: 读不了 (cannot be read: {error})；请换一个文件夹或用 --fresh (choose another folder or --fresh)"
        ) from None


@contextmanager
def _writing(folder: Path, database: sqlite3.Connection) -> Iterator[None]:
    """One transaction; BianQueError, and nothing of it, if the disk does not take it."""
    try:
        with database:
            yield
    except sqlite3.OperationalError as error:
        raise BianQueError(
            f"{folder / DATABASE}: 写不了 (cannot be written): {error}；腾出空间后用同样的命令继续 "
            "(make room, then run the same command again)"
        ) from None


def _kept(database: sqlite3.Connection) -> dict[str, Any] | None:
    """The question with its facts; None if nothing was asked yet."""
    facts = {name: json.loads(value) for name, value in database.execute("SELECT name, value FROM run")}
    question = facts.pop(QUESTION, None)
    return None if question is None else question | facts


def _lines(database: sqlite3.Connection) -> list[str]:
    return [line for (line,) in database.execute("SELECT line FROM rows ORDER BY rowid")]


def _as_facts(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, json.dumps(value)) for name, value in run.items() if name in FACTS]


def _question(run: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in run.items() if name not in FACTS}


def _as_values(row: Row) -> tuple[Any, ...]:
    return *row.key, line_of(row)


# --- a run's question ---------------------------------------------------------------------------------------------


def _agreed(folder: Path, before: dict[str, Any], asked: dict[str, Any], later: Collection[str]) -> dict[str, Any]:
    """The question with the facts that are known, if it goes on with the run that was asked `before`."""
    facts = {name: before[name] for name in FACTS if name in before}
    old = _question(before)
    for field in later:
        if asked.get(field) is None or old.get(field) is None:
            old[field] = asked[field] = asked.get(field) if old.get(field) is None else old[field]
    if difference := _difference(old, asked):
        field, then, now = difference
        raise BadInput(
            f"{folder}: 这里的评测与这次要求的不同 (was asked something else): {field} {_short(then)} → {_short(now)}；"
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


def line_of(row: Row) -> str:
    """A row as one line of JSON; what it has not is left out."""
    fields = {name: value for name, value in asdict(row).items() if value is not None}
    fields["history"] = [{k: v for k, v in turn.items() if v is not None} for turn in fields["history"]]
    line = json.dumps(fields, ensure_ascii=False, allow_nan=False)
    # Half of a surrogate pair: JSON can write it as an escape, UTF-8 cannot.
    return line if line.isascii() or _encodes(line) else json.dumps(fields, allow_nan=False)


def _encodes(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


def _row(line: str) -> Row:
    """A row from a line that `line_of` wrote."""
    found = json.loads(line)
    judged = found.get("judged")
    history = tuple(Message(**turn) for turn in found["history"])
    return Row(**found | {"history": history, "judged": None if judged is None else Judged(**judged)})


# --- runs of an earlier version -----------------------------------------------------------------------------------

_ROW = TypeAdapter(Row)


def _old(folder: Path) -> tuple[dict[str, Any] | None, list[Row]]:
    """The question and rows of a folder without a database."""
    path = folder / RUN
    if not path.exists():
        if (folder / ROWS).exists() and (folder / ROWS).stat().st_size:
            raise BadInput(
                f"{folder}: 有 {ROWS} 却没有 {RUN}，不知道是怎么得来的：请换一个文件夹或用 --fresh "
                f"({ROWS} without {RUN}: choose another folder or --fresh)"
            )
        return None, []
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(
            f"{path}: 读不懂 (cannot be read: {type(error).__name__})；请换一个文件夹或用 --fresh "
            "(choose another folder or --fresh)"
        ) from None
    return found, _imported(folder / ROWS)


def _imported(path: Path) -> list[Row]:
    """The rows of JSONL, the latest of each key; a last line that a kill has torn is no row."""
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise BadInput(f"{path}: 读不了 (cannot be read): {error.strerror}") from None
    lines = content.split(b"\n")
    rows = dict[Key, Row]()
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                row = _checked(line)
                rows[row.key] = row
        except ValueError as error:
            if number == len(lines):
                break
            raise BadInput(
                f"{path}:{number}: 不是一行完整的结果 (not a row: {error})；请改好或删掉这一行，或用 --fresh 从头开始 "
                "(mend or delete the line, or begin anew with --fresh)"
            ) from None
    return list(rows.values())


def _checked(line: bytes) -> Row:
    """A row from a line that anybody may have written; ValueError says what is wrong with it."""
    # Half of a surrogate pair, which pydantic does not take, becomes a question mark.
    whole = json.dumps(json.loads(line), ensure_ascii=False).encode(errors="replace")
    try:
        row = _ROW.validate_json(whole, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if (row.answer is None) == (row.error is None):
        raise ValueError("neither answer nor error, or both")
    return row
