"""A small Hub on this machine: enough of its API for `snapshot_download` and `upload_folder`, and ways to misbehave."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.conftest import listening

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Repositories as {repo: {file: bytes}}; `private` ones want `token`, `gated` ones an accepted request."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    token: str = "hf_test"
    private: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    cut: dict[str, int] = field(default_factory=dict)  # file → bytes after which the connection breaks, once
    spoilt: set[str] = field(default_factory=set)  # files whose bytes are not those of their checksum
    down: bool = False
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, Range
    url: str = ""


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    with listening(type("Handler", (Handler,), {"hub": hub})) as hub.url:
        yield hub


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_POST(self) -> None:
        """`create_repo` and `upload_folder`, every file within the commit itself."""
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.asked.append((self.command, self.path, None))
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self.refuse(401)
        if self.path == "/api/repos/create":
            given = json.loads(content)
            self.hub.repos.setdefault(given["name"] if "/" in given["name"] else f"me/{given['name']}", {})
            if given.get("private") or given.get("visibility") == "private":
                self.hub.private.add("me/mine")
            return self.tell({"url": f"{self.hub.url}/me/mine"})
        if self.path == "/api/validate-yaml":
            return self.tell({"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(content)["files"]
            ]
            return self.tell({"files": files})
        files_ = self.hub.repos["/".join(self.path.split("/")[3:5])]
        for line in map(json.loads, content.splitlines()):
            if line["key"] == "file":
                files_[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self.tell(
            {"commitUrl": f"{self.hub.url}/me/mine/commit/{COMMIT}", "commitOid": COMMIT, "hookOutput": ""}
        )

    def tell(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer(self, body: bool) -> None:
        self.hub.asked.append((self.command, self.path, self.headers.get("Range")))
        if self.hub.down:
            return self.refuse(503)
        if self.path == "/api/whoami-v2":
            known = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
            return self.tell({"type": "user", "name": "me"}) if known else self.refuse(401)
        parts = self.path.split("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        names = parts[2:] if api else parts
        repo, rest = "/".join(names[:2]), names[2:]
        revision = rest[1] if len(rest) > 1 else "main"
        allowed = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if repo not in self.hub.repos or (repo in self.hub.private and not allowed):
            return self.refuse(401, "RepoNotFound")
        if repo in self.hub.gated and not api:
            return self.refuse(403, "GatedRepo")
        if revision not in ("main", "v1", COMMIT):
            return self.refuse(404, "RevisionNotFound")
        files = self.hub.repos[repo]
        if api:
            return self.listing(repo, files, rest[0] if rest else "revision")
        return self.file(files, "/".join(rest[2:]), body)

    def refuse(self, status: int, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def listing(self, repo: str, files: dict[str, bytes], kind: str) -> None:
        if kind == "tree":
            told: object = [
                {"type": "file", "path": name, "size": len(data), "oid": "0" * 40, "lfs": lfs(data)}
                for name, data in files.items()
            ]
        else:
            told = {"id": repo, "sha": COMMIT, "siblings": [sibling(*file) for file in files.items()]}
        self.tell(told)

    def file(self, files: dict[str, bytes], name: str, body: bool) -> None:
        if name not in files:
            return self.refuse(404, "EntryNotFound")
        data = files[name]
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(data)))
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if not body:
            return
        if name in self.hub.spoilt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if (end := self.hub.cut.pop(name, None)) is not None:
            self.wfile.write(data[start:end])
            self.close_connection = True
            return
        self.wfile.write(data[start:])


def sibling(name: str, data: bytes) -> dict[str, object]:
    return {"rfilename": name, "size": len(data), "blobId": "0" * 40, "lfs": lfs(data)}


def lfs(data: bytes) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    return {"oid": digest, "sha256": digest, "size": len(data), "pointerSize": 130}
