"""`python -m bianque cluster`: from a list of machines to the YAML that Ray Serve or KubeRay takes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bianque import tables
from bianque.catalog.card import Model
from bianque.catalog.footprint import RESERVE, plan
from bianque.errors import BadInput
from bianque.types import Bits

CONVERSATIONS = (8, 4, 2, 1)  # at a time, the first number that fits is what a replica has room for at least
CPUS = 4  # of a replica on a machine without a GPU, at most
LOAD = 0.7  # of what a replica can write: beyond it, those who come at once wait noticeably
HEAD = """\
# {command}
# On the head: ray start --head --num-cpus=0    On each machine: ray start --address=HEAD:6379
# Then in the project's folder, once: serve run this.yaml    And the page: BIANQUE_CLUSTER=auto python app.py
# A changed file takes effect with `serve run` again: replicas finish what they are writing before they go.
"""


@dataclass(frozen=True, slots=True)
class Placement:
    """One card's replicas: at how many bits, in how many bytes of weights and caches, and how many of them at most.

    `share` is of the smallest GPU or, with `cpus` for each, of the smallest machine.
    """

    card: Model
    bits: Bits
    size: int
    share: float
    cpus: int = 0
    replicas: int = 0

    @property
    def name(self) -> str:
        return f"{self.card.base}@{self.bits}" if len(self.card.precisions) > 1 else self.card.name


def machines_in(path: Path) -> list[Any]:
    """The machines of a file; BadInput names file, machine, field, value and what it may be."""
    from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

    class Machine(BaseModel):
        model_config = ConfigDict(strict=True, extra="forbid")
        name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$", description="小写字母、数字、横线 (a-z, 0-9, -)")
        count: int = Field(1, ge=1, le=10_000, description="1 到 10000 的整数 (a whole number)")
        cpus: int = Field(ge=1, le=4096, description="核数 (cores)")
        memory_gb: float = Field(gt=0, le=100_000, description="内存，10⁹ 字节 (memory in 10⁹ bytes)")
        gpus: int = Field(0, ge=0, le=64, description="0 到 64 的整数 (a whole number)")
        gpu_gb: float = Field(0, ge=0, le=1000, description="每块显卡的显存，10⁹ 字节 (of each GPU, 10⁹ bytes)")

    try:
        found = TypeAdapter(list[Machine]).validate_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadInput(f"--machines {path}: 读不了 (cannot be read): {why}") from None
    except ValidationError as error:
        wrong = error.errors()[0]
        place = ".".join(map(str, wrong["loc"]))
        field = Machine.model_fields.get(str(wrong["loc"][-1])) if wrong["loc"] else None
        what = (field and field.description) or wrong["msg"]
        raise BadInput(f"--machines {path}: {place}={json.dumps(wrong['input'], ensure_ascii=False, default=str)[:80]}：需要 {what}") from None  # fmt: skip
    if not found or any(machine.gpus and not machine.gpu_gb for machine in found):
        raise BadInput(f"--machines {path}: 至少一台机器；有 gpus 时需要 gpu_gb (a machine at least; gpus need gpu_gb)")
    return found


def placed(machines: Sequence[Any], cards: Sequence[Model], bits: Sequence[Bits]) -> list[Placement]:
    """How many replicas of each card fit, dealt in turn; on GPUs where there are any, else on the processors.

    A deployment asks for the same of every machine, so all is measured by the smallest. BadInput names what does not fit.
    """
    gpus = [machine for machine in machines if machine.gpus]
    if gpus:
        memory, cores = min(machine.gpu_gb for machine in gpus), 0
        free = [1.0 for machine in gpus for _ in range(machine.count * machine.gpus)]
    else:
        memory, cores = min(machine.memory_gb for machine in machines), min(machine.cpus for machine in machines)
        free = [min(m.cpus / cores, m.memory_gb / memory) for m in machines for _ in range(m.count)]
    found = [sized(card, bits, memory * (1 - RESERVE), cores) for card in cards]
    going = sorted(range(len(found)), key=lambda place: -found[place].share)  # before small ones fill every gap
    while going:
        for place in tuple(going):
            one = found[place]
            spot = next((i for i, left in enumerate(free) if left >= one.share - 1e-9), None)
            if spot is None:
                going.remove(place)
            else:
                free[spot] -= one.share
                found[place] = replace(one, replicas=one.replicas + 1)
    if missing := [one.card.name for one in found if not one.replicas]:
        raise BadInput(
            f"{', '.join(missing)}: 这些机器上放不下了 (no room left on these machines): "
            "请加机器，少写几个 --model，或在 BIANQUE_BITS 里允许更少的位数 (add machines, name fewer models, or allow fewer bits)"
        )
    return found


def sized(card: Model, allowed: Sequence[Bits], usable: float, cores: int) -> Placement:
    """At the first allowed precision that fits `usable` · 10⁹ bytes, and with as many conversations as fit then."""
    cpus = min(CPUS, cores)
    allowed = (card.held,) if card.held else [bits for bits in allowed if bits in card.precisions]
    for bits in allowed or card.precisions:
        for conversations in CONVERSATIONS:
            size = plan(card, bits, conversations, double=bool(cores) and card.preview).size
            if size <= usable * 1e9:
                share = max(size / (usable * 1e9), cpus / cores if cores else 0)
                return Placement(card, bits, size, math.ceil(share * 100) / 100, cpus)
    least = min(plan(card, bits).size for bits in card.precisions)
    raise BadInput(
        f"{card.name}: 需要至少 {least / 1e9:.1f} GB，最小的机器可用 {usable:.1f} GB (needs at least so much; the smallest "
        "machine has less): 请从清单里去掉它，或在 BIANQUE_BITS 里允许更少的位数 (take it out, or allow fewer bits)"
    )


def serve_config(placements: Sequence[Placement], gpu_gb: float) -> dict[str, Any]:
    """Ray Serve's own configuration: an application a card, reached by handles alone, so no port is opened."""
    return {
        "proxy_location": "Disabled",
        "logging_config": {"log_level": "WARNING", "enable_access_log": False},
        "applications": [application(one, gpu_gb) for one in placements],
    }


def application(one: Placement, gpu_gb: float) -> dict[str, Any]:
    env = {"BIANQUE_MEMORY_GB": f"{max(one.share * gpu_gb * (1 - RESERVE), one.size / 1e9):.2f}"}
    options: dict[str, Any] = {"num_gpus": one.share, "num_cpus": 1}
    if one.cpus:
        env["BIANQUE_THREADS"] = str(one.cpus)
        options = {"num_cpus": one.cpus, "memory": one.size}
    grows = {
        "min_replicas": 1, "max_replicas": one.replicas, "target_ongoing_requests": 4, "downscale_delay_s": 600,
    }  # fmt: skip
    return {
        "name": one.card.base,
        "route_prefix": None,
        "import_path": "bianque.backends.ray:replicas",
        "args": {"model": one.name},
        "runtime_env": {"env_vars": env},
        "deployments": [{"name": "Engines", "ray_actor_options": options, "autoscaling_config": grows}],
    }


def ray_service(config: dict[str, Any], machines: Sequence[Any], image: str, version: str) -> dict[str, Any]:
    """KubeRay's RayService with a worker group for each kind of machine."""

    def pod(name: str, cpus: int, memory: float, gpus: int) -> dict[str, Any]:
        limits: dict[str, Any] = {"cpu": cpus, "memory": f"{math.floor(memory)}G"}
        limits |= {"nvidia.com/gpu": gpus} if gpus else {}
        return {"spec": {"containers": [{"name": name, "image": image, "resources": {"limits": limits, "requests": dict(limits)}}]}}  # fmt: skip

    workers = [
        {
            "groupName": machine.name, "replicas": machine.count, "minReplicas": 1, "maxReplicas": machine.count,
            "rayStartParams": {}, "template": pod("ray-worker", machine.cpus, machine.memory_gb, machine.gpus),
        }
        for machine in machines
    ]  # fmt: skip
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "bianque"},
        "spec": {
            # KubeRay asks Serve's proxies whether a pod is ready, so they run; nothing but that is behind them.
            "serveConfigV2": as_yaml(config | {"proxy_location": "EveryNode"}),
            "rayClusterConfig": {
                "rayVersion": version,
                "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": pod("ray-head", 2, 8, 0)},
                "workerGroupSpecs": workers,
            },
        },
    }


def as_yaml(value: Any) -> str:
    """In the order of the keys; a text of several lines stands as it is."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    style = lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)  # fmt: skip
    Dumper.add_representer(str, style)
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True)


def needed(visitors: Sequence[int], rate: float, tokens: int, every: float) -> str:
    """How many replicas so many visitors at once need, as a Markdown table, from what one of them writes a second."""
    head = ("同时在聊的访客 (visitors at once)", "条消息/秒 (messages/s)", "词元/秒 (tokens/s)", "副本 (replicas)")
    asked = [(count, count / every, count / every * tokens) for count in visitors]
    rows = [(f"{n:,}", f"{m:.1f}", f"{t:,.0f}", f"{math.ceil(t / (rate * LOAD)):,}") for n, m, t in asked]
    note = f"每位访客每 {every:g} 秒一条消息，回答 {tokens} 词元；一个副本每秒 {rate:g} 词元，用到 {LOAD:.0%} (a message every {every:g} s, {tokens} tokens a reply; a replica writes {rate:g} tokens/s, used to {LOAD:.0%})"  # fmt: skip
    return "\n".join([*tables.markdown(head, rows), "", note])


def cluster(
    machines: Annotated[Path | None, typer.Option(metavar="FILE", help="JSON: a list of machines, as in bianque/deploy/machines.json")] = None,
    model: Annotated[list[str] | None, typer.Option(metavar="CARD", help="what runs there; bianque-1 and bianque-2 if left out")] = None,
    kuberay: Annotated[bool, typer.Option("--kuberay", help="a RayService for Kubernetes instead")] = False,
    image: Annotated[str, typer.Option(help="the container image of a RayService")] = "bianque:cuda-ray",
    ray_version: Annotated[str, typer.Option(help="Ray in that image")] = "2.60.0",
    visitors: Annotated[list[int] | None, typer.Option(metavar="N", help="print how many replicas so many visitors need")] = None,
    rate: Annotated[float, typer.Option(help="tokens a second of one replica, as `bench concurrency` measures")] = 46.8,
    tokens: Annotated[int, typer.Option(help="of a reply")] = 120,
    every: Annotated[float, typer.Option(help="seconds between two messages of a visitor")] = 60.0,
) -> None:  # fmt: skip
    """The YAML of a Ray cluster for a list of machines, or how many replicas visitors need."""
    if visitors:
        if rate <= 0 or tokens <= 0 or every <= 0:
            raise BadInput("--rate、--tokens、--every: 需要大于 0 (must be above 0)")
        print(needed(visitors, rate, tokens, every))
        return
    if machines is None:
        raise BadInput("--machines: 需要机器清单，见 bianque/deploy/machines.json (a list of machines is needed)")
    from bianque.catalog import builtin, custom, default
    from bianque.settings import Settings

    settings, known = custom.known(Settings.read())
    cards = builtin.by_name(known)
    chosen = [builtin.find(cards, name) for name in dict.fromkeys(model or default.HUB)]
    for card in chosen:
        _ = card.loadable
    there = machines_in(machines)
    gpu_gb = min((machine.gpu_gb for machine in there if machine.gpus), default=0.0)
    config = serve_config(placed(there, chosen, settings.bits), gpu_gb)
    named = "".join(f" {name}" for name in dict.fromkeys(model or ()))
    command = f"python -m bianque cluster --machines {machines}{' --model' + named if named else ''}"
    if kuberay:
        print(f"# {command} --kuberay\n{as_yaml(ray_service(config, there, image, ray_version))}", end="")
    else:
        print(HEAD.format(command=command) + as_yaml(config), end="")
