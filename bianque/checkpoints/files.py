"""Reading a checkpoint's files: what a file is not is told before anything tries to read it."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

PICKLES = (b"PK\x03\x04", b"\x80")  # a zip archive, as torch writes since 1.6, or a bare pickle
UNSAFE = ("Unsupported", "not an allowed", "not allowed")  # what torch's reader says of a pickle that would run code


def save(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A safetensors file that whoever may read its folder may read: the library's own is for its owner alone."""
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path, metadata={"format": "pt"})
    path.chmod(mode)


def json_of(path: Path) -> Any:
    """A JSON file, with or without a byte order mark; ValueError says what else it is."""
    genuine(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise ValueError(f"{path.name}: 嵌套太深 (nested too deeply)") from None


def genuine(path: Path) -> Path:
    """The path itself. ValueError if a Git LFS pointer or a web page was saved in the file's place."""
    with path.open("rb") as opened:
        begins = opened.read(64)
    if begins.startswith(b"version https://git-lfs"):
        raise ValueError(
            f"{path.name} 只是 Git LFS 指针，没有内容：请用 git lfs pull 或 hf download 下载真正的文件 "
            "(a Git LFS pointer, not the file: download it with git lfs pull or hf download)"
        )
    if begins.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise ValueError(
            f"{path.name} 是一个网页，不是模型文件：请重新下载 (a saved web page, not the file: download it again)"
        )
    return path


def tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """A weight file's tensors, by name. ValueError if it is no table of them, pickle.UnpicklingError if it is unsafe."""
    genuine(path)
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (not a mapping)
                yield name, opened.get_tensor(name)
        return
    with path.open("rb") as read:
        if not (begins := read.read(24)).startswith(PICKLES):
            raise ValueError(f"{path.name} 不是权重文件，开头是 (not a weight file, it begins with) {begins!r}")
    try:
        # Files from before torch 1.6 are no zip archives and cannot be mapped.
        table = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # its reader meets damage with whatever it stumbles over: IndexError, struct.error …
        if isinstance(error, pickle.UnpicklingError) and any(word in str(error) for word in UNSAFE):
            raise
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if not isinstance(table, dict) or not all(isinstance(value, Tensor) for value in table.values()):
        raise ValueError("not a table of tensors")
    # What was trained may have been stored as it was: still asking for gradients.
    yield from ((name, value.detach()) for name, value in table.items())
