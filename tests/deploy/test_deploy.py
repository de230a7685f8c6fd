"""What stands in deploy/: its facts are those of the project, and its steps work in a folder of their own."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from bianque.__main__ import main
from bianque.settings import Settings
from tests.conftest import free_port

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "bianque" / "deploy"
LINES = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text(encoding="utf-8")).splitlines()
STEPS = [tuple(line.split(maxsplit=1)) for line in LINES if line.strip() and not line.startswith("#")]
KNOWN = ("FROM", "ARG", "RUN", "WORKDIR", "COPY", "ENV", "VOLUME", "USER", "EXPOSE", "HEALTHCHECK", "CMD")


def of(name: str) -> list[str]:
    return [rest.strip() for step, rest in STEPS if step == name]


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for rest in of("ENV") for pair in shlex.split(rest))


def copied() -> list[tuple[list[str], str]]:
    return [(words[:-1], words[-1]) for words in map(shlex.split, of("COPY"))]


def test_the_image_is_made_of_what_is_there():
    assert {step for step, _ in STEPS} <= set(KNOWN) and STEPS[0][0] == "FROM" and ":latest" not in of("FROM")[0]
    for sources, _ in copied():
        assert all((ROOT / source).exists() for source in sources)
    allowed = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"]
    assert sorted(allowed) == sorted({source for sources, _ in copied() for source in sources})
    head = yaml.safe_load((ROOT / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert of("FROM") == [f"python:{head['python_version']}-slim"]


def test_it_does_not_run_as_root_and_keeps_its_data_in_the_volume():
    env, volume = environment(), of("VOLUME")[0]
    assert STEPS.index(("USER", "bianque")) < [step for step, _ in STEPS].index("CMD")
    assert env["HF_HOME"].startswith(volume) and env["BIANQUE_VOTES"].startswith(volume)
    Settings.read({name: value for name, value in env.items() if name.startswith("BIANQUE_")})
    assert of("EXPOSE") == [env["GRADIO_SERVER_PORT"]] and json.loads(of("CMD")[-1]) == ["python", "app.py"]


def test_torch_is_named_as_the_requirements_have_it():
    assert '"$(grep ^torch requirements.txt)"' in "".join(of("RUN"))
    assert len([line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("torch")]) == 1


def test_compose_builds_that_image_and_opens_this_machines_port_alone():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert set(services) == {"cpu", "cuda"}
    arguments = {rest.partition("=")[0] for rest in of("ARG")}
    for service in services.values():
        build = service["build"]
        context = (DEPLOY / build["context"]).resolve()
        assert context == ROOT and (context / build["dockerfile"]).is_file() and set(build.get("args", {})) <= arguments
        assert service["ports"] == [f"127.0.0.1:7860:{of('EXPOSE')[0]}"] and service["volumes"] == ["data:/data"]
        Settings.read({name: str(value) for name, value in service["environment"].items()})
    assert (
        services["cuda"]["profiles"] == ["gpu"] and services["cuda"]["deploy"]["resources"]["reservations"]["devices"]
    )


def test_the_ray_service_is_what_the_command_prints(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    written = (DEPLOY / "rayservice.yaml").read_text(encoding="utf-8")
    command = shlex.split(written.splitlines()[0].removeprefix("# python -m bianque"))
    assert main(command) == 0 and capsys.readouterr().out == written


@pytest.mark.process
@pytest.mark.slow
def test_the_steps_work_in_a_fresh_folder(tmp_path):
    """What the image copies is all that the page needs, and the health check sees it."""
    for sources, target in copied():
        for source in sources:
            if (ROOT / source).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, tmp_path / target, ignore=ignored, dirs_exist_ok=True)
            else:
                shutil.copy(ROOT / source, tmp_path / target)
    port = str(free_port())
    (tmp_path / "data").mkdir()
    env = {name: value.replace("/data", str(tmp_path / "data")) for name, value in environment().items()}
    env |= {"GRADIO_SERVER_PORT": port, "GRADIO_SERVER_NAME": "127.0.0.1", "BIANQUE_MODELS": "mini"}
    check = json.loads(of("HEALTHCHECK")[0].partition("CMD ")[2])
    page = subprocess.Popen([sys.executable, "app.py"], cwd=tmp_path, env=os.environ | env, stderr=subprocess.PIPE)
    try:
        healthy, until = False, time.monotonic() + 120
        while not healthy and page.poll() is None and time.monotonic() < until:
            time.sleep(1)  # each look starts a Python
            command = [sys.executable, *check[1:-1], check[-1].replace("7860", port)]
            healthy = subprocess.run(command, capture_output=True).returncode == 0
        assert healthy, page.stderr and page.stderr.read()
    finally:
        page.terminate()
        page.wait(30)
