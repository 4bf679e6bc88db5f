"""A server that speaks as much of the Hugging Face hub's API as its client needs to create, push and pull."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_secretOfTheTest"
_ROUTES = [
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/main", "preupload"),
    ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/main", "commit"),
    ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>.+))?", "info"),
    ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/lfs/(?P<oid>\w+)", "store"),
    ("GET", r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)", "resolve"),
    ("GET", r"/stored/(?P<oid>\w+)", "stored"),
]


@dataclass
class Repository:
    private: bool
    gated: bool = False
    #: The files after every commit: commit, then content by path.
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def add(self, files: dict[str, bytes], message: str) -> str:
        before = self.commits[-1][1] if self.commits else {}
        commit = hashlib.sha1(f"{len(self.commits)} {message}".encode()).hexdigest()
        self.commits.append((commit, {**before, **files}))
        self.messages.append(message)
        return commit

    def find(self, revision: str | None) -> tuple[str, dict[str, bytes]] | None:
        if revision in (None, "main"):
            return self.commits[-1]
        return next((found for found in self.commits if found[0] == revision), None)


class HubServer:
    """Repositories by name; zip files are stored as LFS objects on another host, as the hub does."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str | None, str]] = []  # method, path, Authorization, User-Agent
        self.refuse = 0  # status with which every commit is answered
        self.may_write = True
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(self))
        self._http.daemon_threads = True
        self._http.socket = tls.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def base(self) -> str:
        return f"https://127.0.0.1:{self._http.server_port}"

    @property
    def storage(self) -> str:
        return f"https://localhost:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


class RefusalError(Exception):
    def __init__(self, status: int, code: str = "", text: str = "") -> None:
        self.status, self.code, self.text = status, code, text


class _Answers(BaseHTTPRequestHandler):
    hub: HubServer

    def handle(self) -> None:
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            super().handle()

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers["Authorization"], self.headers["User-Agent"]))
        self.body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        for allowed, pattern, name in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and allowed == method:
                try:
                    getattr(self, name)(**match.groupdict())
                except RefusalError as refusal:
                    headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.text}
                    self.reply(refusal.status, json.dumps({"error": refusal.text}).encode(), headers)
                return
        self.reply(404, b"{}")

    def reply(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def reply_json(self, data: Any) -> None:
        self.reply(200, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def identify(self, *, write: bool = False) -> bool:
        """Return whether the sender has a token."""
        token = self.headers["Authorization"]
        if token not in (None, f"Bearer {TOKEN}"):
            raise RefusalError(401, "", "Invalid credentials in Authorization header")
        if write and not (token and self.hub.may_write):
            raise RefusalError(403, "", "You don't have the rights required to perform this action")
        return token is not None

    def find(self, repo: str, *, write: bool = False) -> Repository:
        known = self.identify()
        found = self.hub.repositories.get(repo)
        if found is None or (found.private and not known):
            raise RefusalError(404 if known else 401, "RepoNotFound", "Repository not found")
        if write:
            self.identify(write=True)
        return found

    def create(self) -> None:
        self.identify(write=True)
        wish = json.loads(self.body)
        repo = f"{wish['organization']}/{wish['name']}"
        if repo in self.hub.repositories:
            raise RefusalError(409, "", "You already created this model repo")
        private = wish.get("visibility", "private" if wish.get("private") else "public") == "private"
        self.hub.repositories[repo] = Repository(private)
        self.hub.repositories[repo].add({".gitattributes": b"*.zip filter=lfs\n"}, "initial commit")
        self.reply_json({"url": f"{self.hub.base}/{repo}"})

    def validate(self) -> None:
        data = yaml.safe_load(json.loads(self.body)["content"].split("---")[1])
        problems = [] if {"license", "library_name", "tags"} <= set(data) else [{"message": "fields are missing"}]
        self.reply_json({"errors": problems, "warnings": problems})

    def info(self, repo: str, revision: str | None) -> None:
        found = self.find(repo)
        commit = found.find(revision)
        if commit is None:
            raise RefusalError(404, "RevisionNotFound", "Invalid rev id")
        names = [{"rfilename": name} for name in commit[1]]
        self.reply_json({"id": repo, "sha": commit[0], "private": found.private, "siblings": names})

    def preupload(self, repo: str) -> None:
        files = self.find(repo, write=True).commits[-1][1]
        answers = []
        for file in json.loads(self.body)["files"]:
            name, have = file["path"], files.get(file["path"])
            lfs = name.endswith(".zip")
            known = None if have is None else hashlib.sha256(have).hexdigest() if lfs else _hash_blob(have)
            mode = "lfs" if lfs else "regular"
            answers.append({"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": known})
        self.reply_json({"files": answers})

    def batch(self, repo: str) -> None:
        self.find(repo, write=True)
        objects = []
        for wish in json.loads(self.body)["objects"]:
            upload = {"upload": {"href": f"{self.hub.storage}/lfs/{wish['oid']}"}}
            more = {} if wish["oid"] in self.hub.objects else {"actions": upload}
            objects.append({"oid": wish["oid"], "size": wish["size"], **more})
        self.reply_json({"transfer": "basic", "objects": objects})

    def store(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise RefusalError(422, "", "the content is not that of the oid")
        self.hub.objects[oid] = self.body
        self.reply(200, b"")

    def commit(self, repo: str) -> None:
        found = self.find(repo, write=True)
        if self.hub.refuse:
            raise RefusalError(self.hub.refuse, "", "refused")
        lines = [json.loads(line) for line in self.body.splitlines()]
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, found.commits[-1][0]):
            raise RefusalError(412, "", "A commit has happened since. Please refresh and try again.")
        files = {}
        for line in lines[1:]:
            value = line["value"]
            inline = line["key"] == "file"
            files[value["path"]] = base64.b64decode(value["content"]) if inline else self.hub.objects[value["oid"]]
        commit = found.add(files, header["summary"])
        self.reply_json({"commitUrl": f"{self.hub.base}/{repo}/commit/{commit}", "commitOid": commit})

    def resolve(self, repo: str, revision: str, file: str) -> None:
        found = self.find(repo)
        if found.gated:
            raise RefusalError(403, "GatedRepo", "Access to this model is restricted")
        commit = found.find(revision)
        if commit is None:
            raise RefusalError(404, "RevisionNotFound", "Invalid rev id")
        if file not in commit[1]:
            raise RefusalError(404, "EntryNotFound", "Entry not found")
        content = commit[1][file]
        oid = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": commit[0], "ETag": f'"{oid}"'}
        if not file.endswith(".zip"):
            self.reply(200, content, headers)
            return
        linked = {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
        self.reply(302, b"", {**headers, **linked, "Location": f"{self.hub.storage}/stored/{oid}"})

    def stored(self, oid: str) -> None:
        if self.headers["Authorization"]:
            raise RefusalError(400, "", "a storage must not see tokens")
        self.reply(200, self.hub.objects[oid], {"ETag": f'"{oid}"', "Content-Type": "application/zip"})


def _make_handler(hub: HubServer) -> type[_Answers]:
    return type("Handler", (_Answers,), {"hub": hub})


def _hash_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
