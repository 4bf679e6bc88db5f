"""A local server that resumes, cuts, lies and refuses according to a script, and counts the bytes it sends."""

import contextlib
import email.utils
import re
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.datasets.download import transfer
from pipeline.datasets.download.transfer import Patience
from tests.disks import mount_tmpfs

QUICK = Patience(timeout=1.0, attempts=3, first_wait=0.01, longest_wait=0.05)


@dataclass
class Act:
    """The server's answer to one request.

    Args:
        cut: bytes of the body after which it closes the connection.
        status: sent instead of the file.
        headers: sent in addition to, or instead of, the default ones.
        body: sent with `status`.
        stall: bytes after which it says nothing more.
    """

    cut: int | None = None
    status: int | None = None
    headers: dict = field(default_factory=dict)
    body: bytes = b""
    stall: int | None = None


@dataclass
class Request:
    path: str
    range: str | None
    if_range: str | None
    sent: int = 0


class Server:
    """Files by name, and a script of acts, one per request; without an act the file is sent as a good server does.

    Args:
        tls: makes it an https server.
    """

    def __init__(self, tls=None):
        self.files, self.script, self.requests = {}, [], []
        self.etag, self.modified, self.ranges, self.length = '"v1"', None, True, True
        self.pause = 0.0  # seconds after each 64 kB
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._make_handler())
        self._http.daemon_threads = True
        self.scheme = "https" if tls else "http"
        if tls:  # the handshake is the handler's, so that a client that breaks it off does not stop the server
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.stopping = threading.Event()
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, name):
        return f"{self.base}/{name}"

    @property
    def base(self):
        return f"{self.scheme}://127.0.0.1:{self._http.server_port}"

    @property
    def sent(self):
        """Bytes of all bodies so far."""
        return sum(request.sent for request in self.requests)

    def close(self):
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()

    def _make_handler(server):  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                request = Request(self.path.lstrip("/"), self.headers["Range"], self.headers["If-Range"])
                server.requests.append(request)
                with contextlib.suppress(ConnectionError):
                    server.answer(self, request, server.script.pop(0) if server.script else Act())

            def handle(self):
                with contextlib.suppress(ssl.SSLError):
                    super().handle()

            def log_message(self, *_):
                pass

        return Handler

    def answer(self, handler, request, act):
        body = self.files.get(request.path)
        if act.status or body is None:
            handler.send_response(act.status or 404)
            self._send_headers(handler, {"Content-Length": str(len(act.body)), **act.headers})
            handler.wfile.write(act.body)
            return
        start = self._find_start(request)
        if start is not None and start >= len(body):
            handler.send_response(416)
            self._send_headers(handler, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
            return
        handler.send_response(200 if start is None else 206)
        headers = {"Content-Type": "application/octet-stream", "ETag": self.etag, "Last-Modified": self.modified}
        if start is not None:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        if self.length:
            headers["Content-Length"] = str(len(body) - (start or 0))
        self._send_headers(handler, {**headers, **act.headers})
        self._send_body(handler, request, act, body[start or 0 :])

    def _find_start(self, request):
        match = re.fullmatch(r"bytes=(\d+)-", request.range or "")
        fits = request.if_range in (None, self.etag, self.modified)
        return int(match[1]) if match and self.ranges and fits else None

    @staticmethod
    def _send_headers(handler, headers):
        for name, value in headers.items():
            if value is not None:
                handler.send_header(name, value)
        handler.end_headers()

    def _send_body(self, handler, request, act, body):
        end = min(number for number in (act.cut, act.stall, len(body)) if number is not None)
        step = 65536
        for begin in range(0, end, step):
            block = body[begin : min(begin + step, end)]
            handler.wfile.write(block)
            request.sent += len(block)
            if self.pause and self.stopping.wait(self.pause):
                return
        if act.stall is not None:
            handler.wfile.flush()
            self.stopping.wait(5)


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


@pytest.fixture
def act():
    """The server's answer to one request."""
    return Act


@pytest.fixture
def quick():
    """Hundredths of a second where users wait for seconds."""
    return QUICK


@pytest.fixture
def impatient(monkeypatch):
    """The same for commands."""
    monkeypatch.setattr(transfer, "PATIENCE", QUICK)


@pytest.fixture
def http_date():
    return email.utils.formatdate(time.time() - 86400, usegmt=True)


@pytest.fixture
def small_disk(tmp_path):
    """File system of 4 MB; ``grow()`` makes it larger."""
    with mount_tmpfs(tmp_path / "disk", "size=4m") as folder:
        yield folder
