"""Open HTTP requests with urllib3: careful redirects, the environment's proxies, and two kinds of failure.

urllib3 trusts the system's certificates, as hospital networks need; requests brings its own, and pooch cannot resume.
"""

import contextlib
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, InvalidHeader, LocationValueError

from pipeline import __version__

_SCHEMES = ("http", "https")
_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
_MOST_REDIRECTS = 10
_OTHER_HOST = (62, 64)  # OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH
_HEADERS = {"User-Agent": f"pipeline/{__version__}", "Accept-Encoding": "identity"}


class RefusedError(Exception):
    """The address will not give the file, however often it is asked."""


class InterruptedTransferError(Exception):
    """The transfer stopped; trying again may help."""

    wait = 0.0  #: seconds that the server asked to wait


@dataclass(frozen=True)
class Patience:
    """How long to try."""

    timeout: float = 30.0  #: seconds without a byte after which a connection counts as lost
    attempts: int = 6  #: failures in a row, none of which brought a byte, after which an address is given up
    first_wait: float = 1.0  #: seconds after the first failure; doubled after each further one
    longest_wait: float = 60.0  #: seconds; also the most that a server's ``Retry-After`` is obeyed

    def compute_wait(self, failures: int, requested: float) -> float:
        """Return the seconds to wait after a number of failures in a row; the server requested some of them."""
        return min(max(requested, self.first_wait * 2 ** (failures - 1)), self.longest_wait)


def open_url(url: str, headers: dict[str, str], timeout: float) -> urllib3.BaseHTTPResponse:
    """Send a GET request and return the response, with its body unread: status 200, 206 or 416.

    Args:
        url: http or https.
        headers: besides User-Agent and Accept-Encoding; after a redirect to another host, without Authorization.
        timeout: seconds for connecting and for every read.

    Raises:
        RefusedError: the address will not give the file.
        InterruptedTransferError: try again.
    """
    try:
        response = _follow_redirects(url, {**_HEADERS, **headers}, timeout)
    except HTTPError as error:
        reason = error.__cause__ or (error.args[0] if error.args and isinstance(error.args[0], Exception) else error)
        final = isinstance(reason, ssl.SSLCertVerificationError | LocationValueError)
        text = f"{url}: {reason}{_advise(reason)}"
        raise (RefusedError if final else InterruptedTransferError)(text) from None
    if response.status in (200, 206, 416):
        return response
    response.close()
    text = f"{url} answered {response.status} {response.reason}"
    if response.status not in _TEMPORARY:
        raise RefusedError(text)
    interruption = InterruptedTransferError(text)
    with contextlib.suppress(InvalidHeader):
        interruption.wait = urllib3.Retry().get_retry_after(response) or 0.0
    raise interruption


def _advise(reason: BaseException) -> str:
    """Return what helps if the certificate is of an unknown authority; a certificate of another host helps nobody."""
    if isinstance(reason, ssl.SSLCertVerificationError) and reason.verify_code not in _OTHER_HOST:
        return "; if your network has its own authority, set SSL_CERT_FILE to the file of its certificates"
    return ""


def _follow_redirects(url: str, headers: dict[str, str], timeout: float) -> urllib3.BaseHTTPResponse:
    first = url
    if urlsplit(url).scheme not in _SCHEMES:
        raise RefusedError(f"{url} is not an http or https address")
    # A short body is reported with its position in the file, so urllib3 need not check its length.
    raw: dict[str, Any] = {
        "retries": False,
        "redirect": False,
        "preload_content": False,
        "enforce_content_length": False,
    }
    for _ in range(_MOST_REDIRECTS):
        response = _make_pool(url).request("GET", url, headers=headers, timeout=timeout, **raw)
        location = response.get_redirect_location()
        if not location:
            return response
        response.close()
        target = urljoin(url, location)
        check_redirect(url, target)
        if urlsplit(target)[:2] != urlsplit(url)[:2]:
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        url = target
    raise RefusedError(f"{first} redirects more than {_MOST_REDIRECTS} times")


def check_redirect(url: str, target: str) -> None:
    """Raise `RefusedError` if a redirect leaves http and https, or gives up encryption, as urllib3 would let it."""
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
