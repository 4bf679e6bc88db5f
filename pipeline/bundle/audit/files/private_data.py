"""Find what is private: pictures, outputs, keys, home folders, names of machines and patients."""

import getpass
import re
import socket
from collections.abc import Collection, Iterator

from pipeline.bundle.audit.files.code_files import name_extension
from pipeline.bundle.audit.finding import Finding, make_finding, shorten
from pipeline.bundle.audit.word_list import read_words

_SCANS = read_words(
    """
    .dcm .dicom .ima .nii .mha .mhd .raw .nrrd .nhdr .mgz .mgh .img .hdr .svs .ndpi .czi .h5 .hdf5 .npz .zarr
    """
)
_PICTURES = read_words(
    """
    .png .jpg .jpeg .gif .tif .tiff .bmp .webp .pdf
    """
)
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"\x89HDF")
_PICTURE_STARTS = (*_MAGIC, b"BM", b"RIFF", b"%PDF")
# Where pictures may stand, and which kinds: the model card, and the case that a bundle is verified with.
_CARD, _REFERENCE = ("docs/",), ("reference/",)
_OUTPUT = re.compile(
    r"(^|/)(outputs?|eval|evaluation|predictions?|runs|logs?|mlruns|wandb|lightning_logs|__pycache__|\.ipynb_checkpoints"
    r"|\.git|cache|tmp|temp)/|(^|/)(events\.out\.tfevents[^/]*|run\.json|metrics\.csv|[^/]+_raw\.csv|nohup\.out"
    r"|[^/]+\.(log|out|err|tmp|swp|bak))$",
    re.IGNORECASE,
)
_PRIVATE = re.compile(
    r"(^|/)(\.env|\.netrc|\.npmrc|\.pypirc|\.ds_store|thumbs\.db|desktop\.ini|id_(rsa|dsa|ecdsa|ed25519)|\.ssh/.*"
    r"|kaggle\.json|credentials(\.json)?|[^/]+\.(key|p12|pfx|jks|kdbx)|\.[^/]*history)$",
    re.IGNORECASE,
)
_GENERIC = read_words(
    """
    user username users you me name jovyan ubuntu runner root admin someone monai yourname your_name xxx home
    shared app public localhost default docker nvidia worker build ci test node host server data
    """
)
_HOME = re.compile(r"(?:/home/|/Users/|[A-Za-z]:[\\/]+Users[\\/]+)([A-Za-z0-9_.-]+)|(/root)/")
# What stands before a folder of that name on a web page or within another folder.
_ELSEWHERE = re.compile(r"https?://[^/]\S*|[\w.-]+(/[\w.-]+)*", re.IGNORECASE)
_KEY = re.compile(
    r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b"
    r"|\bhf_[A-Za-z0-9]{30,}\b|\bxox[abp]-[0-9A-Za-z-]{20,}|\bsk-[A-Za-z0-9]{32,}"
)
_PATIENT = re.compile(
    r"[\"']?(patient|subject)[_ -]?(name|id|birth[_ -]?date|s[_ -]name)[\"']?\s*[:=]\s*"
    r"[\"']?(?P<value>[^\"'\s,}{][^\"'\n,}]*)",
    re.IGNORECASE,
)
_UID = re.compile(r"\b1\.[23]\.\d+(?:\.\d+){4,}\b")
_ROOTED = re.compile(r"/(?!/)[\w.@ -]+(/[\w.@ -]*)+|~.*|(\.\.[\\/]).*|[A-Za-z]:[\\/].*")
_CODE_PATH = re.compile(
    r"(\.(py|pyc|sh|so|bat|ps1|exe|service|desktop)|(^|/)(\.\w*(rc|profile)|authorized_keys|crontab))[\"')\]]*\s*$"
)
_LEAST_UID = 30


def check_kind(path: str, head: bytes) -> Iterator[Finding]:
    """Yield a finding if a file is a picture, a scan, an output or a secret.

    Args:
        path: within the bundle.
        head: its first bytes.
    """
    suffix = name_extension(path.removesuffix(".gz"))
    scan = suffix in _SCANS or head[128:132] == b"DICM" or head[344:348] in (b"n+1\0", b"ni1\0")
    picture = suffix in _PICTURES or head.startswith(_MAGIC)
    if _PRIVATE.search(path):
        yield make_finding("private-file", path)
    elif suffix in _PICTURES and not scan and not head.startswith(_PICTURE_STARTS):
        yield make_finding("unknown-file", path, "", f"its content is not that of a {suffix} file")
    elif (path.startswith(_REFERENCE) and (scan or picture)) or (path.startswith(_CARD) and picture and not scan):
        yield make_finding("documented-picture", path)
    elif scan or picture:
        yield make_finding("picture", path)
    elif _OUTPUT.search(path):
        yield make_finding("output-file", path)


def name_this_machine() -> frozenset[str]:
    """Return the names of this machine and of the account, if they say anything."""
    try:
        names = {getpass.getuser(), socket.gethostname(), socket.gethostname().partition(".")[0]}
    except (OSError, KeyError, ImportError):
        names = set()
    return frozenset(name for name in names if len(name) >= 4 and name.lower() not in _GENERIC)


def check_text(path: str, content: bytes, machine: Collection[str]) -> Iterator[Finding]:
    """Yield private parts of a text.

    Args:
        path: within the bundle.
        content: of the file.
        machine: names of this machine and account.
    """
    text = content.decode("utf-8", "replace")
    home = next((found for found in _HOME.finditer(text) if _is_home(text, found)), None)
    if home:
        yield make_finding("home-path", path, _place(text, home), shorten(home[0]))
    if key := _KEY.search(text):
        yield make_finding("private-key", path, _place(text, key), shorten(key[0][:12] + "..."))
    patient = next((found for found in _PATIENT.finditer(text) if not _is_empty(found["value"])), None)
    if patient:
        yield make_finding("patient-field", path, _place(text, patient), shorten(patient[0][:60]))
    uid = next((found for found in _UID.finditer(text) if len(found[0]) >= _LEAST_UID), None)
    if uid:
        yield make_finding("dicom-uid", path, _place(text, uid), uid[0])
    for name in sorted(machine):
        if found := re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text):
            yield make_finding("host-name", path, _place(text, found), name)


def _is_home(text: str, found: re.Match[str]) -> bool:
    """Whether a path is that of somebody's folder, and no address or relative path that has such a part."""
    before = re.split(r"[\s\"'`()<>\[\]{},;=|]", text[max(found.start() - 300, 0) : found.start()])[-1]
    named = (found[1] or "root").lower() not in _GENERIC - {"root"}
    return named and not (found[0].startswith("/") and _ELSEWHERE.fullmatch(before))


def _is_empty(value: str) -> bool:
    """Whether a field names nobody: a reference, a type, a word for nothing."""
    return bool(re.fullmatch(r"[@$%<].*|null|none|true|false|str|int|\W*", value.strip(), re.IGNORECASE))


def _place(text: str, found: re.Match[str]) -> str:
    return f"line {text.count(chr(10), 0, found.start()) + 1}"


def is_code_path(text: str) -> bool:
    """Return whether a text of a config ends in the name of a program, or of a file that is read at a start.

    Example:
        >>> is_code_path("logs/sitecustomize.py"), is_code_path("~/.bashrc"), is_code_path("models/model.pt")
        (True, True, False)
    """
    return len(text) < 1000 and _CODE_PATH.search(text) is not None


def is_absolute_path(text: str) -> bool:
    r"""Return whether a text of a config is a path from the root of a file system, from home, or from a folder above.

    Example:
        >>> is_absolute_path("/workspace/data"), is_absolute_path("a/b"), is_absolute_path("C:\\data")
        (True, False, True)
    """
    return _ROOTED.fullmatch(text) is not None
