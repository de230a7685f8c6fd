"""The proxies that the environment names, as every client here can use them: httpx, huggingface_hub, gradio, urllib.

Each reads the same variables and stumbles in its own way: this machine asked by way of a proxy, `socks://`, which
desktops write and no client knows, and a SOCKS proxy without the package for it.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from importlib.util import find_spec
from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies

from bianque.errors import SettingsError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
KINDS = ("http", "https", "all")
SCHEMES = ("http", "https", "socks5", "socks5h")


def configure(env: MutableMapping[str, str] = os.environ) -> None:
    """Exempt this machine, and write the proxies so that all clients read them; for a process's entry, before its clients.

    SettingsError names a proxy, or a mirror of the Hub, that none of them could use.
    """
    mirror(env)
    found = getproxies()  # of the system too, which clients would no longer ask once there is a variable
    if not any(found.get(kind) for kind in KINDS):
        return
    for kind in KINDS:
        if proxy := found.get(kind):
            env[f"{kind}_proxy"] = env[f"{kind.upper()}_PROXY"] = usable(f"{kind}_proxy", proxy)
    spared = [host.strip() for host in found.get("no", "").split(",") if host.strip()]
    env["no_proxy"] = env["NO_PROXY"] = ",".join(dict.fromkeys((*spared, *LOOPBACK)))


def mirror(env: MutableMapping[str, str]) -> None:
    """HF_ENDPOINT without the blanks and quotes of a pasted line, with which huggingface_hub cannot be imported."""
    given = env.get("HF_ENDPOINT")
    if given is None:
        return
    if not (address := given.strip().strip("\"'").strip()):
        del env["HF_ENDPOINT"]
        return
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or any(letter.isspace() for letter in address):
        raise SettingsError(
            f"HF_ENDPOINT={given!r}: 需要 http:// 或 https:// 开头的地址，如 https://hf-mirror.com "
            "(an address that begins with http:// or https:// is needed): 请改正或清除这个变量 (correct or unset it)"
        )
    env["HF_ENDPOINT"] = address


def usable(name: str, proxy: str) -> str:
    """A proxy's address in a form that every client reads; SettingsError if there is none."""
    whole = proxy if "://" in proxy else f"http://{proxy}"
    scheme, _, place = whole.partition("://")
    scheme = "socks5" if scheme.lower() == "socks" else scheme.lower()
    shown = f"{name}={scheme}://{place.rpartition('@')[2]}"  # without a password
    if scheme not in SCHEMES or not place.strip("/"):
        raise SettingsError(
            f"{shown}: 代理的地址应为 http://、https:// 或 socks5:// 开头 (a proxy is http://, https:// or socks5://): "
            "请改正或清除这个变量 (correct or unset the variable)"
        )
    if scheme.startswith("socks") and find_spec("socksio") is None:
        raise SettingsError(
            f"{shown}: SOCKS 代理需要 socksio，请运行 pip install socksio，或清除这个变量 "
            "(a SOCKS proxy needs the package socksio: pip install socksio, or unset the variable)"
        )
    return f"{scheme}://{place}"


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own, which no proxy can reach for us."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
