"""Open HTTP requests with urllib3: careful redirects, the environment's proxies, and two kinds of failure.

urllib3 trusts the system's certificates, as hospital networks need; requests brings its own, and pooch cannot resume.
"""

from __future__ import annotations

import ssl
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, InvalidHeader, LocationValueError

from pipeline import __version__

_SCHEMES = ("http", "https")
_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
_MOST_REDIRECTS = 10


class RefusedError(Exception):
    """The address will not give the file, however often it is asked."""


class InterruptedTransferError(Exception):
    """The transfer stopped; trying again may help.

    Args:
        message: the reason.
        wait: seconds that the server asked to wait.
    """

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


def open_url(url: str, headers: dict[str, str], timeout: float) -> urllib3.BaseHTTPResponse:
    """Send a GET request and return the response, with its body unread: status 200, 206 or 416.

    Args:
        url: http or https.
        headers: besides User-Agent and Accept-Encoding.
        timeout: seconds for connecting and for every read.

    Raises:
        RefusedError: the address will not give the file.
        InterruptedTransferError: try again.
    """
    headers = {"User-Agent": f"pipeline/{__version__}", "Accept-Encoding": "identity", **headers}
    try:
        response = _follow_redirects(url, headers, timeout)
    except HTTPError as error:
        reason = error.__cause__ or (error.args[0] if error.args and isinstance(error.args[0], Exception) else error)
        final = isinstance(reason, ssl.SSLCertVerificationError | LocationValueError)
        raise (RefusedError if final else InterruptedTransferError)(f"{url}: {reason}") from None
    if response.status in (200, 206, 416):
        return response
    response.close()
    text = f"{url} answered {response.status} {response.reason}"
    if response.status in _TEMPORARY:
        raise InterruptedTransferError(text, _read_retry_after(response))
    raise RefusedError(text)


def _follow_redirects(url: str, headers: dict[str, str], timeout: float) -> urllib3.BaseHTTPResponse:
    """Follow redirects to http and https only, and never from https to http; urllib3 would follow the latter."""
    first = url
    if urlsplit(url).scheme not in _SCHEMES:
        raise RefusedError(f"{url} is not an http or https address")
    for _ in range(_MOST_REDIRECTS):
        response = _make_pool(url).request(
            "GET",
            url,
            headers=headers,
            timeout=timeout,
            retries=False,
            redirect=False,
            preload_content=False,
            enforce_content_length=False,  # a short body is reported with its position in the file
        )
        location = response.get_redirect_location()
        if not location:
            return response
        response.close()
        target = urljoin(url, location)
        check_redirect(url, target)
        url = target
    raise RefusedError(f"{first} redirects more than {_MOST_REDIRECTS} times")


def check_redirect(url: str, target: str) -> None:
    """Check that a redirect may be followed.

    Raises:
        RefusedError: it leaves http and https, or gives up encryption.
    """
    old, new = urlsplit(url).scheme, urlsplit(target).scheme
    if new not in _SCHEMES or (old == "https" and new == "http"):
        raise RefusedError(f"{url} redirects to {target}, which is not followed")


def _make_pool(url: str) -> urllib3.PoolManager:
    """Return connections that respect the environment's proxies (``https_proxy``, ``no_proxy``)."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if not proxy or proxy_bypass(parts.hostname or ""):
        return urllib3.PoolManager()
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    login = urllib3.util.parse_url(proxy).auth
    return urllib3.ProxyManager(proxy, proxy_headers=urllib3.make_headers(proxy_basic_auth=login) if login else None)


def _read_retry_after(response: urllib3.BaseHTTPResponse) -> float:
    try:
        return urllib3.Retry().get_retry_after(response) or 0.0
    except InvalidHeader:
        return 0.0
