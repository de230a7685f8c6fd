"""The YAML of a cluster: what fits on which machines, and what Ray and KubeRay are told of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from bianque.__main__ import main
from bianque.catalog.footprint import RESERVE

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "bianque" / "deploy"
T4 = {"name": "t4", "count": 2, "cpus": 8, "memory_gb": 30, "gpus": 1, "gpu_gb": 15.6}
CPU = {"name": "cpu", "count": 3, "cpus": 16, "memory_gb": 64}
SMALL = {"name": "small", "cpus": 2, "memory_gb": 8}


@pytest.fixture
def told(tmp_path, capsys):
    """What the command prints for these machines, and its errors."""

    def tell(machines: object, *options: str) -> tuple[str, str]:
        path = tmp_path / "machines.json"
        path.write_text(machines if isinstance(machines, str) else json.dumps(machines), encoding="utf-8")
        main(["cluster", "--machines", str(path), *options])
        found = capsys.readouterr()
        return found.out, found.err

    return tell


def deployments(out: str) -> dict[str, dict]:
    """By card: its application."""
    config = yaml.safe_load(out)
    assert config["proxy_location"] == "Disabled" and config["logging_config"]["enable_access_log"] is False
    return {app["name"]: app for app in config["applications"]}


def test_a_gpu_is_shared_and_never_given_twice(told):
    apps = deployments(told([T4])[0])
    assert list(apps) == ["bianque-1", "bianque-2"]
    taken = 0.0
    for app in apps.values():
        (made,) = app["deployments"]
        share, most = made["ray_actor_options"]["num_gpus"], made["autoscaling_config"]["max_replicas"]
        memory = float(app["runtime_env"]["env_vars"]["BIANQUE_MEMORY_GB"])
        assert 0 < share <= 1 and most >= 1 and memory <= share * T4["gpu_gb"] * (1 - RESERVE) + 0.01
        taken += share * most
    assert taken <= 2 and apps["bianque-2"]["args"] == {"model": "bianque-2@8"}


def test_without_gpus_cores_and_memory_are_shared(told):
    apps = deployments(told([CPU, SMALL | {"memory_gb": 16}], "--model", "bianque-1", "ask-mini")[0])
    for app in apps.values():
        options = app["deployments"][0]["ray_actor_options"]
        assert options["num_cpus"] == 2 and options["memory"] > 0 and "num_gpus" not in options
        assert app["runtime_env"]["env_vars"]["BIANQUE_THREADS"] == "2"
    assert sum(app["deployments"][0]["autoscaling_config"]["max_replicas"] for app in apps.values()) >= 3


def test_a_precision_may_be_named(told):
    assert deployments(told([CPU], "--model", "bianque-2@8")[0])["bianque-2"]["args"] == {"model": "bianque-2@8"}


def test_kubernetes_gets_the_same_and_a_group_for_each_machine(told):
    plain, service = told([T4])[0], yaml.safe_load(told([T4], "--kuberay", "--image", "me/bianque:1")[0])
    assert (service["apiVersion"], service["kind"]) == ("ray.io/v1", "RayService")
    assert yaml.safe_load(service["spec"]["serveConfigV2"]) == yaml.safe_load(plain) | {"proxy_location": "EveryNode"}
    cluster = service["spec"]["rayClusterConfig"]
    (group,) = cluster["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert (group["groupName"], group["replicas"], container["image"]) == ("t4", 2, "me/bianque:1")
    assert container["resources"]["limits"] == {"cpu": 8, "memory": "30G", "nvidia.com/gpu": 1}
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}


@pytest.mark.parametrize(
    ("machines", "options", "words"),
    [
        ("[", (), ["machines.json"]),
        ([], (), ["machine at least"]),
        ([{"name": "x"}], (), ["0.cpus", "cores"]),
        ([CPU | {"count": 0}], (), ["0.count=0", "1 到 10000"]),
        ([CPU | {"name": "A B"}], (), ['0.name="A B"', "a-z"]),
        ([CPU | {"gpu": 1}], (), ["0.gpu=1"]),
        ([CPU | {"gpus": 1}], (), ["gpus need gpu_gb"]),
        ([SMALL], ("--model", "disc-medllm"), ["disc-medllm", "GB", "take it out"]),
        ([T4 | {"count": 1}], ("--model", "bianque-2", "soulchat"), ["soulchat", "add machines"]),
        ([CPU], ("--model", "bianque"), ["BQ_UNKNOWN_MODEL", "bianque"]),
    ],
    ids=lambda part: str(part)[:30],
)
def test_what_cannot_be_is_told(told, machines, options, words):
    out, err = told(machines, *options)
    assert out == "" and all(word in err for word in words), err


def test_a_list_is_needed(capsys):
    assert main(["cluster"]) == 1 and "machines.json" in capsys.readouterr().err


def test_replicas_for_visitors_are_told_with_what_they_rest_on(capsys):
    assert main(["cluster", "--visitors", "100", "1000", "--rate", "100", "--tokens", "70", "--every", "10"]) == 0
    out = capsys.readouterr().out
    assert "| 100 | 10.0 | 700 | 10 |" in out and "| 1,000 | 100.0 | 7,000 | 100 |" in out and "70%" in out
    assert main(["cluster", "--visitors", "1", "--rate", "0"]) == 1
