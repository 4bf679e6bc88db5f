"""One HTTP request for a file, whole or from an offset, and what its answer means.

urllib of the standard library: pooch, the usual choice, cannot resume a transfer, and requests would be one more
dependency without resuming either.
"""

from __future__ import annotations

import email.utils
import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

from pipeline import __version__

SCHEMES = ("http", "https")
_TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class RefusedError(Exception):
    """This address will not give the file, however often it is asked."""


class InterruptedTransferError(Exception):
    """The transfer stopped; trying again may help.

    Args:
        message: what happened.
        wait: seconds that the server asked to wait.
    """

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


class RangeError(Exception):
    """The server has no bytes at the offset (416).

    Args:
        size: bytes of the whole file, if the server says so.
    """

    def __init__(self, size: int | None) -> None:
        super().__init__(f"no bytes there; the file has {size}")
        self.size = size


@dataclass(frozen=True)
class Reply:
    """A body that has begun to arrive.

    Args:
        stream: the body.
        start: offset of its first byte in the file.
        size: bytes of the whole file; None if the server does not say.
        validator: strong ETag, else the time of the last change, else empty.
    """

    stream: http.client.HTTPResponse
    start: int
    size: int | None
    validator: str


class _CarefulRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to http and https only, and never from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in SCHEMES or (old == "https" and new == "http"):
            raise RefusedError(f"{req.full_url} redirects to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _build_opener() -> urllib.request.OpenerDirector:
    # Not build_opener(): that one also opens file:, ftp: and data:.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _CarefulRedirects(),
    ):
        opener.add_handler(handler)
    return opener


def open_at(url: str, start: int, validator: str, timeout: float) -> Reply:
    """Ask for a file from an offset on.

    Args:
        url: http or https.
        start: offset in bytes; 0 asks for the whole file.
        validator: sent as ``If-Range``, so that a changed file comes whole instead of as a part that does not fit
            (RFC 9110, section 13.1.5); empty sends none.
        timeout: seconds for connecting and for every read.

    Returns:
        The reply; its ``start`` is 0 where the server ignores ranges or the file has changed.

    Raises:
        RefusedError: the address will not give the file.
        InterruptedTransferError: try again.
        RangeError: the file has no bytes at ``start``.
    """
    if urlsplit(url).scheme not in SCHEMES:
        raise RefusedError(f"{url} is no http or https address")
    headers = {"User-Agent": f"segmentation-pipeline/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator
    try:
        response = _build_opener().open(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        raise _judge_status(error, url) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _judge_failure(error, url) from None
    try:
        return _read_head(response, url, start)
    except BaseException:
        response.close()
        raise


def _judge_status(error: urllib.error.HTTPError, url: str) -> Exception:
    if error.code == 416:
        match = _CONTENT_RANGE.fullmatch(error.headers.get("Content-Range", ""))
        return RangeError(int(match[3]) if match and match[3] != "*" else None)
    text = f"{url} answered {error.code} {error.reason}"
    if error.code in _TEMPORARY:
        return InterruptedTransferError(text, _read_retry_after(error.headers))
    return RefusedError(text)


def _judge_failure(error: Exception, url: str) -> Exception:
    reason = getattr(error, "reason", error)
    text = f"{url}: {reason or type(reason).__name__}"
    final = isinstance(reason, ssl.SSLCertVerificationError) or isinstance(error, ValueError | http.client.InvalidURL)
    return RefusedError(text) if final else InterruptedTransferError(text)


def _read_retry_after(headers: Message) -> float:
    value = headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _read_head(response: http.client.HTTPResponse, url: str, start: int) -> Reply:
    headers = response.headers
    if headers.get_content_type() == "text/html":
        raise RefusedError(
            f"{url} answered with a web page instead of an archive (a login, or a network's sign-in page?)"
        )
    if headers.get("Content-Encoding", "identity") != "identity":
        raise RefusedError(
            f"{url} answered with Content-Encoding {headers['Content-Encoding']}, which was not asked for"
        )
    validator = _choose_validator(headers)
    if response.status == 200:
        length = headers.get("Content-Length", "")
        return Reply(response, 0, int(length) if length.isdigit() else None, validator)
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if response.status != 206 or not match or match[1] is None:
        raise RefusedError(f"{url} answered {response.status} without saying which bytes it sends")
    first, size = int(match[1]), None if match[3] == "*" else int(match[3])
    if first != start:
        raise RefusedError(f"{url} sent bytes from {first}, asked for were those from {start}")
    return Reply(response, first, size, validator)


def _choose_validator(headers: Message) -> str:
    tag = headers.get("ETag", "")
    # A weak tag says that two files mean the same, not that their bytes are the same.
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")
