"""This machine's own models."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from bianque.backends.pool import Pool
from bianque.catalog import builtin
from bianque.catalog.card import Model
from bianque.catalog.footprint import RESERVE, LoadPlan, plan
from bianque.checkpoints import hub
from bianque.errors import OutOfMemory
from bianque.nn import cpu
from bianque.nn.cpu import Cores
from bianque.settings import Settings
from bianque.types import Bits, Dialogue, Piece, Progress, Sampling

if TYPE_CHECKING:
    import torch

    from bianque.engine.engine import Engine

# Conversations that a model writes at a time, at most: more of them make each slower than one reads.
SLOTS = {"cpu": 8, "cuda": 32}


class Local:
    """This machine's models. torch is imported when the first of them is needed, not before."""

    def __init__(
        self, settings: Settings, cards: Sequence[Model] = builtin.CARDS, together: Sequence[str] = ()
    ) -> None:
        """`together` names the models that are in memory at the same time and get as many slots each."""
        self.settings = settings
        self.cards = builtin.by_name(cards)
        self.together = [builtin.find(self.cards, name) for name in together]
        self.paths: Mapping[str, Path] = settings.paths
        self.cores = Cores(settings.threads)
        self.pool = Pool(self.load, drop, self.plans, self.budget, settings.max_waiting)

    def models(self) -> Sequence[Model]:
        return tuple(self.cards.values())

    def loaded(self, model: str) -> bool:
        return self.pool.loaded(builtin.find(self.cards, model).name)

    def kernel(self, model: str) -> str | None:
        engine = self.pool.engine(builtin.find(self.cards, model).name)
        return engine.kernel if engine else None

    def failure(self, model: str) -> str | None:
        """The code of the error with which a model's last load ended; None if it was well, or never tried."""
        return self.pool.failures.get(builtin.find(self.cards, model).name)

    def prepare(self, model: str) -> None:
        self.pool.prepare(builtin.find(self.cards, model).name)

    async def stream(self, model: str, dialogue: Dialogue, sampling: Sampling) -> AsyncGenerator[Piece, None]:
        async with self.pool.lease(builtin.find(self.cards, model).name) as lease:
            async with aclosing(lease.loading()) as loading:
                async for progress in loading:
                    yield Piece(progress=progress)
            async with aclosing(lease.engine.stream(dialogue, sampling)) as pieces:
                async for piece in pieces:
                    yield piece

    def budget(self) -> int:
        """Bytes for the weights and caches of all models."""
        if self.settings.memory_gb is not None:
            return int(self.settings.memory_gb * 10**9)
        import torch

        free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else cpu.available_memory()
        return int(free * (1 - RESERVE))

    def plans(self, name: str) -> tuple[LoadPlan, ...]:
        """The ways to hold a model: the allowed ones in the order of the settings, then the others."""
        card, allowed = builtin.find(self.cards, name), self.settings.bits
        if bits := card.held or (
            stored if (stored := card.loadable.stored) != 16 else None
        ):  # as asked for, or as published
            return self.ways(card, bits)
        others = (bits for bits in get_args(Bits) if bits not in allowed)
        return tuple(way for bits in (*allowed, *others) for way in self.ways(card, bits, bits in allowed))

    def ways(self, card: Model, bits: Bits, allowed: bool = True) -> tuple[LoadPlan, ...]:
        """With as many slots as there shall be, and with one."""
        most = self.slots(card, bits)
        return tuple(plan(card, bits, slots, double(card, bits), allowed) for slots in dict.fromkeys((most, 1)))

    def slots(self, card: Model, bits: Bits) -> int:
        """Conversations at a time: as many for each model as the budget leaves room for beside all their weights."""
        group = {other.name: other for other in (*self.together, card)}.values()
        alone = [plan(other, bits, 0, double(other, bits)).size for other in group]
        each = [plan(other, bits, 1, double(other, bits)).size for other in group]
        room = ((self.pool.total or self.budget()) - sum(alone)) // (sum(each) - sum(alone))
        return max(1, min(self.settings.slots or SLOTS[place(card, bits)[0]], room))

    def load(self, name: str, plan: LoadPlan, report: Callable[[Progress], None]) -> Engine:
        """Runs in the pool's own thread."""
        report(Progress(name, "loading", 0.0))
        import torch

        from bianque.checkpoints import loader
        from bianque.engine.engine import Engine, recorder

        cpu.trim_memory()  # of a load that failed
        cpu.configure_runtime()
        torch.set_num_threads(self.cores.alone)
        card = builtin.find(self.cards, name)
        device, dtype = place(card, plan.bits)
        try:
            loaded = loader.load(card, self.paths, device, dtype, report, plan.bits)
        except (MemoryError, RuntimeError) as error:
            if not cpu.is_out_of_memory(error):
                raise
            raise OutOfMemory(
                f"{card.title}: 加载 {plan.bits} 位权重时内存用尽，连同对话缓存计划为 {plan.size / 1e9:.1f} GB；请关闭其他程序，"
                f"或调低 BIANQUE_MEMORY_GB，或在 BIANQUE_BITS 中只留更少的位数 (out of memory while loading "
                f"{plan.size / 1e9:.1f} GB with caches, at {plan.bits} bits: close other programs, lower BIANQUE_MEMORY_GB, "
                "or name fewer bits in BIANQUE_BITS)"
            ) from error
        waiting, cores = self.settings.max_waiting, self.cores if device == "cpu" else None
        return Engine(card, loaded.model, loaded.tokenizer, device, plan.slots, waiting, recorder(device), cores)


def double(card: Model, bits: Bits) -> bool:
    return place(card, bits)[1].itemsize == 4


def place(card: Model, bits: Bits) -> tuple[str, torch.dtype]:
    """The device and the numbers a model computes with."""
    import torch

    from bianque.nn import kernels

    if torch.cuda.is_available():
        # The kernel for 4 bits takes bfloat16 alone: on an H100, 20 times as fast as dequantising for a token.
        return "cuda", torch.float16 if bits == 16 else kernels.numbers(torch.device("cuda"), bits)
    # CPUs compute half precision a hundred times slower than bfloat16, which is the kernels' own type for fewer bits, and
    # bfloat16 slower than float32 without instructions for it. The small models are exact in float32.
    full = bits == 16 and (card.preview or not cpu.has_bfloat16())
    return "cpu", torch.float32 if full else torch.bfloat16


def drop(engine: Engine) -> None:
    """Free an engine's memory at once, even if something still refers to its model."""
    import torch

    from bianque.nn import packed

    engine.close()
    model: Any = engine.model
    packed.release(model)
    model.to("meta")
    gc.collect()
    cpu.trim_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def can_run(local: Local) -> Callable[[str], bool]:
    """Whether a model's files are on this machine and its memory can hold it: a battle downloads nothing.

    Takes seconds at its first call, as finding out what memory there is may.
    """

    def runs(name: str) -> bool:
        card = builtin.find(local.cards, name)
        if not is_downloaded(card, local.paths):
            return False
        local.pool.survey(card.name)
        return bool(local.pool.possible(card.name))

    return runs


def is_downloaded(card: Model, paths: Mapping[str, Path]) -> bool:
    """Whether a card's files are in a named folder, in the package or in the Hub's cache; its adapter too."""
    files = card.base in paths or card.repo is None or is_cached(card.repo, card.revision, card.loadable.files, all)
    if not files or card.loadable.adapter is None or f"{card.base}.adapter" in paths:
        return files
    return "/" in card.loadable.adapter and is_cached(card.loadable.adapter, "main", hub.ADAPTER_FILES, any)


def is_cached(repo: str, revision: str, patterns: Sequence[str], enough: Callable[[Iterable[Any]], bool]) -> bool:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return False
    return enough(any(folder.glob(pattern)) for pattern in patterns)
