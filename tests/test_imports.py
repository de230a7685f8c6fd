"""Who may import whom: heavy libraries stay in their rooms, architectures know nothing of one another."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "bianque").rglob("*.py"))
FILES += [path for path in [ROOT / "app.py"] if path.exists()]

# library → rooms that may import it anywhere, and rooms that may inside a function
ROOMS = {
    "gradio": ({"ui", "app"}, {"zero"}),
    "spaces": ({"app", "zero"}, set()),
    "torch": (
        {
            "models",
            "attention",
            "sampling",
            "weights",
            "lora",
            "quant",
            "packed",
            "kernels",
            "decode",
            "graphs",
            "traces",
            "cores",
            "engine",
            "convert",
            "train",
            "evaluate",
            "bench",
            "zero",
        },
        {"backend", "processor", "__main__"},
    ),
    "transformers": (set(), {"evaluate", "bench"}),
    "matplotlib": (set(), {"bench"}),
    "ray": (set(), set()),
}
# Rooms of pure functions and values: the standard library and one another.
PURE = {
    "types", "errors", "settings", "registry", "prompts", "handoff", "questions", "repeats", "safety", "session", "words",
    "words_compare", "transcript", "catalogue", "cards", "terminal", "arena",
}  # fmt: skip


class Import(NamedTuple):
    module: str  # what imports, as bianque.models.t5
    name: str  # what is imported, likewise
    inside: bool  # in a function

    @property
    def room(self) -> str:
        parts = self.module.split(".")
        return parts[1] if len(parts) > 1 else parts[0]


def imports(path: Path) -> Iterator[Import]:
    parts = path.relative_to(ROOT).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    package = parts[:-1]

    def walk(node: ast.AST, inside: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(module, alias.name, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = [*package[: len(package) - child.level + 1]] if child.level else []
                base += child.module.split(".") if child.module else []
                yield from (Import(module, ".".join([*base, alias.name]), inside) for alias in child.names)
            elif not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, inside or function)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False)


ALL = [found for path in FILES for found in imports(path)]


def test_the_walk_sees_imports():
    assert Import("bianque.models.t5", "torch", False) in ALL
    assert Import("bianque.backend", "torch", True) in ALL


@pytest.mark.parametrize("library", ROOMS)
def test_a_heavy_library_stays_in_its_rooms(library):
    anywhere, within = ROOMS[library]
    strayed = [
        found
        for found in ALL
        if found.name.split(".")[0] == library
        and found.room not in anywhere
        and not (found.inside and found.room in within)
    ]
    assert strayed == []


def test_architectures_know_attention_and_not_one_another():
    known = {found.name.rpartition(".")[0] for found in ALL if found.room == "models" and "bianque" in found.name}
    assert known == {"bianque.attention"}


def test_the_pure_rooms_need_the_standard_library_alone():
    foreign = [
        found
        for found in ALL
        if found.room in PURE and found.name.split(".")[0] not in {*sys.stdlib_module_names, "bianque"}
    ]
    assert foreign == []


@pytest.mark.parametrize("room, known", [("types", set()), ("errors", set()), ("questions", set()), ("safety", set())])
def test_facts_know_nobody(room, known):
    assert {found.name for found in ALL if found.room == room and found.name.startswith("bianque")} == known


def test_nothing_imports_the_page_but_the_page():
    assert [found for found in ALL if found.name.startswith("bianque.ui") and found.room not in ("ui", "app")] == []


def test_the_package_opens_without_the_heavy_libraries():
    """The page must not wait for torch, nor the command line for gradio."""
    code = (
        "import sys, bianque, bianque.session, bianque.registry, bianque.backend, bianque.settings, bianque.__main__\n"
        "import bianque.cards, bianque.catalogue, bianque.pair, bianque.terminal, bianque.transcript\n"
        "print(*sorted({'gradio', 'torch', 'transformers', 'numpy', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
