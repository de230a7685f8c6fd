"""Where the page is served: what the environment asks for, checked before Gradio reads it, and what is said of it."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Mapping, MutableMapping

from bianque.errors import SettingsError

USUAL = 7860  # Gradio's, and that of every Space


def port(env: MutableMapping[str, str] = os.environ) -> int:
    """The port that is asked for, else the usual one; SettingsError names what cannot be one. An empty variable goes."""
    for name, most in (("GRADIO_SERVER_PORT", 65535), ("GRADIO_NUM_PORTS", 65535)):
        if not (value := env.get(name, "").strip()):
            env.pop(name, None)
        elif not (value.isascii() and value.isdecimal() and 0 < int(value) <= most):
            raise SettingsError(
                f"{name}={value!r}: 需要 1 到 {most} 的整数 (a whole number from 1 to {most} is needed)"
            )
    return int(env.get("GRADIO_SERVER_PORT", USUAL))


def host(given: str | None = None, env: Mapping[str, str] = os.environ) -> None:
    """SettingsError if the interface that is asked for is none of this machine's."""
    name = given or env.get("GRADIO_SERVER_NAME")
    if not name:
        return
    try:
        family, kind, *_, where = socket.getaddrinfo(name.strip("[]"), 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.bind(where)
    except (OSError, UnicodeError) as error:
        raise SettingsError(
            f"GRADIO_SERVER_NAME={name!r}: 不是这台机器的地址，请用 127.0.0.1（只在本机）或 0.0.0.0（别的机器也能访问） "
            "(no address of this machine: use 127.0.0.1, or 0.0.0.0 for other machines too)"
        ) from error


def why_not(wanted: int) -> str:
    """In words why a port cannot be had: somebody has it, or this user may not."""
    try:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(("127.0.0.1", wanted))
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return "没有权限 (not permitted)"
    return "已被占用 (in use)"


def none_free(wanted: int) -> SettingsError:
    return SettingsError(
        f"端口 {wanted} {why_not(wanted)}，其后也没有空闲的：请用 GRADIO_SERVER_PORT 换一个 "
        f"(port {wanted} cannot be used, nor any after it: choose another with GRADIO_SERVER_PORT)"
    )


def tell(url: str, wanted: int, found: int) -> None:
    """The page is up: where, and whether that is not where it was asked to be."""
    if found != wanted:
        print(
            f"端口 {wanted} {why_not(wanted)}，改用 {found} (port {wanted} cannot be used: this is {found})",
            file=sys.stderr,
            flush=True,
        )
    print(f"扁鹊 BianQue: {url}", flush=True)
