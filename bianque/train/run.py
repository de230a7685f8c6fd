"""A run while it is under way: its model, rows and optimiser, how far it is, and the checkpoint it goes on from."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bianque.catalog.card import Model
from bianque.errors import TrainingFailed
from bianque.models.tokenizers import Tokenizer
from bianque.train import low_rank
from bianque.train.examples import TrainingTurn
from bianque.train.learners import Learner
from bianque.train.plan import TunePlan

KEPT = 2  # checkpoints
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Files:
    """Where a run's rows come from and what it writes to."""

    data: tuple[Path, ...]
    valid: tuple[Path, ...]
    out: Path


class World:
    """The processes of a run: one, or those that `accelerate launch` or `torchrun` has started."""

    def __init__(self) -> None:
        self.size, self.rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        self.accelerator: Any = None
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        if self.size > 1:
            self.accelerator = low_rank.need("accelerate").Accelerator(cpu=self.device == "cpu")
            self.device = str(self.accelerator.device)

    def summed(self, x: Tensor) -> Tensor:
        return self.accelerator.reduce(x, "sum") if self.accelerator else x

    def wait(self) -> None:
        if self.accelerator:
            self.accelerator.wait_for_everyone()


@dataclass(slots=True)
class State:
    """How far a run is; plain values, so that a checkpoint is read without running anything."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0  # that went through the model
    loss: float = 0.0  # of the training batches since the last evaluation, and of how many tokens
    counted: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)  # an evaluation each
    samples: list[dict[str, str]] = field(default_factory=list)
    done: bool = False

    @property
    def best(self) -> dict[str, Any]:
        return min(self.log, key=lambda row: row["valid"])  # the first of equal ones

    @property
    def since_best(self) -> int:
        return len(self.log) - 1 - self.log.index(self.best)


@dataclass(slots=True)
class TuneRun:
    """A model while it is trained."""

    card: Model
    plan: TunePlan
    files: Files
    world: World
    learner: Learner
    tokenizer: Tokenizer
    train: list[TrainingTurn]
    valid: list[TrainingTurn]
    optimizer: torch.optim.Optimizer
    say: Say
    state: State = field(default_factory=State)

    @property
    def model(self) -> nn.Module:
        return self.learner.model

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}

    @property
    def bf16(self) -> bool:
        return self.plan.precision == "bf16"


def save(run: TuneRun) -> None:
    """A checkpoint, whole or not at all; the last ones are kept."""
    if run.world.rank == 0:
        state = {name: getattr(run.state, name) for name in State.__dataclass_fields__}
        kept = {
            "weights": {name: weight.detach() for name, weight in run.trained.items()},
            "optimizer": run.optimizer.state_dict(), "state": json.dumps(state), "threads": torch.get_num_threads(),
        }  # fmt: skip
        folder = run.files.out / "checkpoints"
        folder.mkdir(exist_ok=True)
        whole(folder / f"{run.state.step:08}.pt", lambda path: torch.save(kept, path))
        for old in sorted(folder.glob("*.pt"))[:-KEPT]:
            old.unlink()
    run.world.wait()


def resume(run: TuneRun) -> None:
    """Go on from the newest checkpoint, if there is one."""
    found = sorted((run.files.out / "checkpoints").glob("*.pt"))
    if not found:
        return
    saved = torch.load(found[-1], map_location=run.world.device, weights_only=True)
    for name, weight in run.trained.items():
        weight.data.copy_(saved["weights"][name])
    run.optimizer.load_state_dict(saved["optimizer"])
    run.state = State(**json.loads(saved["state"]))
    torch.set_num_threads(saved["threads"])  # another number gives other last bits
    run.say(f"接着第 {run.state.step} 步 (resumed behind step {run.state.step})")


def whole(path: Path, write: Callable[[Path], Any]) -> None:
    """A file that is there whole or as it was; TrainingFailed says what keeps it from being written."""
    part = path.with_suffix(".part")
    try:
        write(part)
        with part.open("rb") as opened:
            os.fsync(opened.fileno())
        part.replace(path)
    except Exception as error:  # torch and safetensors wrap the system's errors in their own
        part.unlink(missing_ok=True)
        told = getattr(error, "strerror", None) or str(error).splitlines()[0][:200]
        raise TrainingFailed(
            f"{path}: 写不进去 (cannot be written): {told}; 清理磁盘后用同一条命令接着训练 (free some disk: the same command goes on)"
        ) from error


def write_whole(path: Path, text: str) -> None:
    whole(path, lambda part: part.write_text(text, encoding="utf-8"))
