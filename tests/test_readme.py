"""The READMEs: short enough, every link leads somewhere, and every command runs as it stands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from bianque.catalog.builtin import CARDS
from bianque.settings import Settings

ROOT = Path(__file__).parent.parent
READMES = [
    ROOT / "README.md", ROOT / "bianque" / "README.en.md", ROOT / "bianque" / "README.md",
    *sorted((ROOT / "bianque").glob("[!m]*/README.md")),  # those of mini/ are model cards
]  # fmt: skip
NAMES = [str(path.relative_to(ROOT)) for path in READMES]
HERE = "http://127.0.0.1:7860"
# What ends in seconds on this machine alone; of the others the options are looked up.
QUICK = ("models", "evaluate", "compose", "corpus", "cluster")


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every command of the package, once."""
    lines = (line for path in READMES for block in blocks(path, "bash") for line in block.splitlines())
    return list(dict.fromkeys(line.partition("   #")[0].strip() for line in lines if "python -m bianque " in line))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder like a checkout with its environment, where commands may leave files."""
    for name in ("bianque", "app.py", "examples.json"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def run(command: list[str], place: Path, seconds: float = 600) -> str:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@cache
def help_of(*command: str) -> str:
    return run([sys.executable, "-m", "bianque", *command, "--help"], ROOT)


def test_the_first_page_is_short_and_a_space_can_read_its_head():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    head = yaml.safe_load(text.split("---\n")[1])
    assert (head["sdk"], head["app_file"], head["python_version"]) == ("gradio", "app.py", "3.12")
    assert f"gradio=={head['sdk_version']}" in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert set(head["models"]) <= {card.repo for card in CARDS}


def test_both_languages_have_the_same_sections_and_blocks():
    chinese, english = (path.read_text(encoding="utf-8") for path in READMES[:2])
    assert len(re.findall("^## ", chinese, re.MULTILINE)) == len(re.findall("^## ", english, re.MULTILINE))
    for language in ("bash", "python"):
        assert blocks(READMES[0], language) == blocks(READMES[1], language)


@pytest.mark.parametrize("path", READMES, ids=NAMES)
def test_every_link_leads_to_a_file(path):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_variable_is_explained_and_there_is_no_other():
    source = Path(sys.modules[Settings.__module__].__file__ or "").read_text(encoding="utf-8")
    read = set(re.findall(r"BIANQUE_[A-Z_]+\b", source)) - {"BIANQUE_"}
    explained = set(re.findall(r"BIANQUE_[A-Z_]+\b", (ROOT / "bianque" / "README.md").read_text(encoding="utf-8")))
    assert explained == read
    for path in READMES:
        assert set(re.findall(r"BIANQUE_[A-Z_]+\b", path.read_text(encoding="utf-8"))) <= read


def test_the_tests_behind_the_promises_are_there():
    cited = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "bianque" / "README.md").read_text(encoding="utf-8"))
    missing = [name for file, name in cited if f"def {name}(" not in (ROOT / file).read_text(encoding="utf-8")]
    assert len(cited) > 20 and missing == []


def test_the_commands_were_found():
    assert len(commands()) > 10 and all(command.startswith(".venv/bin/python -m bianque ") for command in commands())


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("command", commands())
def test_a_command_runs_as_it_stands(command, place):
    words = shlex.split(command)
    if words[3] in QUICK:
        run(words, place)
        return
    known = help_of(*words[3 : 5 if words[3] in ("bench", "generate") else 4])
    assert [word for word in words[4:] if word.startswith("--") and word not in known] == []


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("path", [READMES[0], ROOT / "bianque" / "api" / "README.md"], ids=["README.md", "api"])
def test_the_code_runs_as_it_stands_against_the_page(path, url, place):
    told = run([sys.executable, "-c", "\n".join(blocks(path, "python")).replace(HERE, url.rstrip("/"))], place)
    assert "asking 请问头痛多久了？" in told and "advising 建议您先休息" in told
    for block in blocks(path, "bash"):
        if HERE not in block or ("jq" in block and not shutil.which("jq")):
            continue
        told = run(["bash", "-euo", "pipefail", "-c", block.replace(HERE, url.rstrip("/"))], place)
        assert any(end in told for end in ("event: complete", "data: [DONE]")) or (place / "report.html").read_text(
            encoding="utf-8"
        ).startswith("<!")
