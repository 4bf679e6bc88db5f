"""The place of a packed bundle, as people type it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from pipeline.issues import InputError

FORMS = "hf://OWNER/REPOSITORY[/FILE.zip][@REVISION], https://HOST/FILE.zip, file:///FOLDER/FILE.zip, or a path"
_MARK = "#sha256="
_HUB = re.compile(
    r"hf://(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<early>[^@/#?]+))?(?:/(?P<file>[^@#?]+))?(?:@(?P<late>[^@#?]+))?/?"
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # one letter alone is a drive
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubPlace:
    """A repository of a Hugging Face hub, or a file in it."""

    repository: str  #: owner and name with a slash between them
    file: str = ""  #: path in the repository; "" if it is not named
    revision: str = ""  #: commit, branch or tag; "" is the newest

    def __str__(self) -> str:
        file = f"/{self.file}" if self.file else ""
        return f"hf://{self.repository}{file}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class WebPlace:
    """A file on a web server."""

    url: str  #: https address

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class FolderPlace:
    """A folder, or a file in it."""

    path: Path  #: as typed

    def __str__(self) -> str:
        return str(self.path)


Place = HubPlace | WebPlace | FolderPlace


def read_place(text: str) -> tuple[Place, str]:
    """Read the place of a packed bundle.

    Args:
        text: see `FORMS`; ``#sha256=DIGEST`` may follow.

    Returns:
        The place and the digest, "" if there is none.

    Raises:
        InputError: the text has none of the forms.

    Example:
        >>> read_place("hf://lab/bundles/lgg.zip@v1")
        (HubPlace(repository='lab/bundles', file='lgg.zip', revision='v1'), '')
        >>> read_place("https://lab.org/lgg.zip#sha256=" + 64 * "0")[0]
        WebPlace(url='https://lab.org/lgg.zip')
    """
    place, mark, digest = text.partition(_MARK)
    if mark:
        digest = read_digest(digest)
    scheme = _SCHEME.match(place)
    if scheme is None:
        return FolderPlace(Path(place)), digest
    return _READERS.get(scheme[0].lower(), _refuse_scheme)(place), digest


def read_digest(text: str) -> str:
    """Return a SHA-256 digest in small letters.

    Raises:
        InputError: it is not one.
    """
    digest = text.strip().lower()
    if not _DIGEST.fullmatch(digest):
        raise InputError(f"{text!r} is not a SHA-256 digest; expected 64 hexadecimal digits, as bundle push prints")
    return digest


def _read_hub(text: str) -> HubPlace:
    match = _HUB.fullmatch(text)
    if match is None or (match["early"] and match["late"]):
        raise InputError(f"{text} is not a place; expected hf://OWNER/REPOSITORY[/FILE.zip][@REVISION]")
    file = match["file"] or ""
    if file and (not file.lower().endswith(".zip") or {"", ".", ".."} & set(file.split("/"))):
        raise InputError(f"{text}: {file} is not the name of a zip file; expected {FORMS.partition(', ')[0]}")
    return HubPlace(match["repository"], file, match["early"] or match["late"] or "")


def _read_web(text: str) -> WebPlace:
    parts = urlsplit(text)
    if not parts.hostname or parts.fragment:
        raise InputError(f"{text} is not a web address of a file; expected https://HOST/FILE.zip[#sha256=DIGEST]")
    if "@" in parts.netloc:
        raise InputError(f"https://{parts.hostname}: leave the user name and password out; they would be in logs")
    return WebPlace(text)


def _refuse_http(text: str) -> WebPlace:
    raise InputError(f"{text}: http is readable and changeable on the way; expected https, hf:// or a folder")


def _refuse_scheme(text: str) -> WebPlace:
    raise InputError(f"{text} has an unknown scheme; expected {FORMS}")


def _read_file_address(text: str) -> FolderPlace:
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise InputError(f"{text} is not on this machine; mount the share, then type file:///FOLDER/FILE.zip or a path")
    # Not `parts.path`: the name of a file may hold a question mark.
    return FolderPlace(Path(url2pathname(text.partition(":")[2].removeprefix("//").removeprefix("localhost"))))


_READERS: dict[str, Callable[[str], Place]] = {
    "hf:": _read_hub,
    "https:": _read_web,
    "http:": _refuse_http,
    "file:": _read_file_address,
}


def unquote_name(url: str) -> str:
    """Return the name of the file at an address.

    Example:
        >>> unquote_name("https://lab.org/a%20b.zip?version=1")
        'a b.zip'
    """
    return unquote(urlsplit(url).path).rpartition("/")[2]
