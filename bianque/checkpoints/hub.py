"""A model's files: a named folder, the package itself, or the Hub's cache after a checked download."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bianque.catalog.card import Model
from bianque.errors import LoadFailed
from bianque.types import Progress

BUNDLED = Path(__file__).parent.parent / "mini"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.*", "lora.p", "pytorch_model.bin")
Report = Callable[[Progress], None]


def folder_of(card: Model, paths: Mapping[str, Path], report: Report) -> Path:
    """Where this card's files are: a named local folder, the package itself, or the Hub's cache after a download."""
    if card.base in paths:
        return paths[card.base]
    if card.repo is None:
        return BUNDLED / card.base
    return fetch(card, card.repo, card.revision, card.loadable.files, report)


def adapter_of(card: Model, paths: Mapping[str, Path], report: Report) -> Path | None:
    """Where this card's LoRA or prefix is: a file or folder named `card.adapter=…` in `paths`, else a Hub id, or None."""
    if (named := f"{card.base}.adapter") in paths:
        return paths[named]
    if card.loadable.adapter is None:
        return None
    if "/" not in card.loadable.adapter:
        raise LoadFailed(
            f"{card.title}: 需要 LoRA 文件 {card.loadable.adapter} (its LoRA is not on the Hub): "
            f"请用 BIANQUE_PATHS={named}=/path/{card.loadable.adapter} 指定"
        )
    folder = fetch(card, card.loadable.adapter, "main", ADAPTER_FILES, report)
    return folder / "lora.p" if (folder / "lora.p").exists() else folder


def fetch(card: Model, repo: str, revision: str, files: Sequence[str], report: Report) -> Path:
    """Download from the Hub (HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are its own); a broken download resumes.

    What came is compared with the sizes the Hub tells, and what came just now with its SHA-256.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError

    report(Progress(card.name, "downloading", 0.0))
    try:
        sizes, absent = listing(repo, revision, files)
        room(card, sum(sizes[name] for name in absent))
        folder = Path(
            snapshot_download(repo, revision=revision, allow_patterns=list(files), tqdm_class=bar(card, report))
        )
    except LocalEntryNotFoundError as error:
        if isinstance(error.__cause__, HfHubHTTPError):  # it answered, but not with the files
            raise LoadFailed(f"{card.title}: {refusal(error.__cause__, repo, revision)}") from error
        raise LoadFailed(
            f"{card.title}: 连不上模型库，本机也没有缓存 (the Hub cannot be reached, {repo} is not cached). "
            f"请检查网络或设置 HF_ENDPOINT，或用 BIANQUE_PATHS={card.base}=/folder 指定本地目录"
        ) from error
    except HfHubHTTPError as error:
        raise LoadFailed(f"{card.title}: {refusal(error, repo, revision)}") from error
    except (HTTPError, OSError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise LoadFailed(f"{card.title}: 下载中断 (download failed): {reason}; 请检查磁盘与网络后重试") from error
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        try:  # what answered is no Hub; what it said before may be here
            cached: dict[str, Any] = {"allow_patterns": list(files), "local_files_only": True}
            return Path(snapshot_download(repo, revision=revision, **cached))
        except (LocalEntryNotFoundError, ValueError):
            raise LoadFailed(f"{card.title}: {misled(error, card)}") from error
    for name, size in sizes.items():
        check(card, folder / name, size, fresh=name in absent)
    return folder


def misled(error: Exception, card: Model) -> str:
    """What to say where something answered that is no Hub: a mirror's address with a slip, a captive portal's page."""
    from huggingface_hub.constants import ENDPOINT

    return (
        f"{ENDPOINT!r} 的回答不像模型库 (does not answer as the Hub does): {type(error).__name__}. 请检查 HF_ENDPOINT 与代理，"
        f"或用 BIANQUE_PATHS={card.base}=/folder 指定本地目录 (check HF_ENDPOINT and proxies, or name a local folder)"
    )


def listing(repo: str, revision: str, files: Sequence[str]) -> tuple[dict[str, int], set[str]]:
    """Sizes of the wanted files as the Hub tells them, and which are not cached yet; nothing where it cannot be asked."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled
    from huggingface_hub.utils import filter_repo_objects

    try:
        told = HfApi().model_info(repo, revision=revision, files_metadata=True)
    except (
        HTTPError,
        OfflineModeIsEnabled,
        OSError,
        ValueError,
    ):  # the download itself will say why, unless all is cached
        return {}, set()
    names = set(filter_repo_objects([file.rfilename for file in told.siblings or ()], allow_patterns=list(files)))
    sizes = {file.rfilename: file.size or 0 for file in told.siblings or () if file.rfilename in names}
    cached = {name for name in names if isinstance(try_to_load_from_cache(repo, name, revision=told.sha), str)}
    return sizes, names - cached


def refusal(error: Exception, repo: str, revision: str) -> str:
    """What the Hub's answer means and what to do about it."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    status = getattr(getattr(error, "response", None), "status_code", "?")
    said = f"模型库对 {repo}@{revision} 返回 {status} (the Hub answered {status}). "
    if isinstance(error, GatedRepoError):
        return (
            said + "这个模型需要先在其页面上申请访问，再设置 HF_TOKEN (gated: ask for access on its page, set HF_TOKEN)"
        )
    if isinstance(error, RevisionNotFoundError):
        return said + "这个版本已不存在，请在卡片中改用别的 revision (this revision is gone: choose another)"
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403):
        return said + "仓库不存在或是私有的：请核对名称，或设置 HF_TOKEN (check the name, or set HF_TOKEN)"
    return said + "请稍后重试，或设置 HF_ENDPOINT 换用镜像 (retry later, or set HF_ENDPOINT to a mirror)"


def bar(card: Model, report: Report) -> type:
    """A progress bar class for huggingface_hub that draws nothing and reports all files' bytes, never backwards."""
    from tqdm.auto import tqdm

    furthest = 0.0

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})
            self.unit = options.get("unit", "it")

        def update(self, n: float | None = 1) -> None:
            nonlocal furthest
            self.n += n or 0
            if self.total and self.unit == "B":
                furthest = max(furthest, min(1.0, self.n / self.total))
                report(Progress(card.name, "downloading", furthest))

    return Bar


def room(card: Model, needed: int) -> None:
    """LoadFailed unless the disk under the Hub's cache has this many bytes left."""
    from huggingface_hub.constants import HF_HUB_CACHE

    place = Path(HF_HUB_CACHE)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise LoadFailed(
            f"{card.title}: 磁盘空间不足，下载需要 {needed / 1e9:.1f} GB，还剩 {free / 1e9:.1f} GB "
            "(not enough disk): 请清理磁盘，或用 HF_HOME 换一个位置"
        )


def check(card: Model, file: Path, size: int, fresh: bool) -> None:
    """LoadFailed, and the file removed, if it has not the bytes the Hub told, or (`fresh`) not their SHA-256."""
    blob = file.resolve()
    wrong = blob.stat().st_size != size
    # The cache names large files by their SHA-256 and links to them; elsewhere the size must do.
    if fresh and not wrong and re.fullmatch("[0-9a-f]{64}", blob.name):
        digest = hashlib.sha256()
        with blob.open("rb") as opened:
            while part := opened.read(1 << 22):
                digest.update(part)
        wrong = digest.hexdigest() != blob.name
    if wrong:
        blob.unlink()
        raise LoadFailed(f"{card.title}: {file.name} 下载不完整或已损坏，已删除，请重试 (incomplete, removed: retry)")
