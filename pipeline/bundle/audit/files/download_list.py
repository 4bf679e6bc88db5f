"""Check ``large_files.yml``: what MONAI fetches must come by https, with a SHA-256, into the bundle."""

import re
from collections.abc import Iterator
from typing import Any

from pipeline.bundle.audit.finding import Finding, make_finding, shorten
from pipeline.datasets.download.members import split_name

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def is_download_list(path: str) -> bool:
    """Return whether MONAI takes a file for a list of downloads.

    Example:
        >>> is_download_list("large_files.yml"), is_download_list("configs/train.json")
        (True, False)
    """
    return re.fullmatch(r"large_files\.(ya?ml|json)", path.rpartition("/")[2].lower()) is not None


def check_downloads(file: str, data: Any) -> Iterator[Finding]:
    """Yield downloads that anybody on the way could change.

    Args:
        file: path of the list within the bundle.
        data: what it holds.
    """
    files = data.get("large_files") if isinstance(data, dict) else None
    if not isinstance(files, list):
        yield make_finding("config-syntax", file, "large_files", "expected a list large_files")
        return
    for index, entry in enumerate(files):
        place = f"large_files#{index}"
        if not isinstance(entry, dict):
            yield make_finding("config-syntax", file, place, f"expected path and url, got {shorten(entry)}")
            continue
        url, path = str(entry.get("url", "")), str(entry.get("path", ""))
        if not url.lower().startswith("https://"):
            yield make_finding("insecure-url", file, f"{place}#url", shorten(url))
        yield from _check_hash(file, place, entry)
        try:
            if not split_name(path):
                raise ValueError("is empty")
        except ValueError as error:
            yield make_finding("download-path", file, f"{place}#path", f"{shorten(path)} {error}")


def _check_hash(file: str, place: str, entry: dict[str, Any]) -> Iterator[Finding]:
    value, kind = entry.get("hash_val"), str(entry.get("hash_type", "sha256")).lower()
    if not value:
        yield make_finding(
            "url-without-hash", file, f"{place}#hash_val", f"no hash_val for {shorten(entry.get('path'))}"
        )
    elif kind not in ("md5", "sha1", "sha256", "sha512"):
        yield make_finding("url-without-hash", file, f"{place}#hash_type", f"unknown hash_type {shorten(kind)}")
    elif kind in ("md5", "sha1"):
        yield make_finding("weak-hash", file, f"{place}#hash_type", kind)
    elif kind == "sha256" and not _SHA256.fullmatch(str(value)):
        yield make_finding("url-without-hash", file, f"{place}#hash_val", f"not a SHA-256: {shorten(value)}")
