"""Find code among a bundle's files: by name, and by the first bytes where a name hides it."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from typing import IO

from pipeline.bundle.audit.files.torch_pickles import is_pickle
from pipeline.bundle.audit.finding import Finding, make_finding
from pipeline.bundle.audit.word_list import read_words

_CODE = read_words(
    """
    .py .pyw .pyi .pyc .pyo .pyx .so .pyd .dll .dylib .exe .sh .bash .zsh .bat .cmd .ps1 .js .mjs .jar .class
    .rb .pl .php .lua .r .jl .c .cc .cpp .cu .cuh .h .o .a .egg .wasm .app .msi .deb .rpm .mk .toml .mo .desktop
    .service
    """
)
_CODE_NAMES = frozenset(
    ("makefile", "dockerfile", "setup.cfg", "pytest.ini", "tox.ini", ".envrc", ".bashrc", ".profile")
)
_HOOKS = re.compile(r"(sitecustomize|usercustomize|conftest)\.py[cow]?")
_PICKLES = frozenset((".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".p"))
# The first bytes of programs and of scripts.
_MAGIC = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"#!", b"\x00asm")
_IMPORT_LINE = re.compile(rb"(?m)^import[ \t]")
#: What bundles need, besides what other checks know.
_KNOWN = read_words(
    """
    .json .yaml .yml .conf .ini .cfg .md .rst .txt .csv .tsv .bib .cff .pt .pth .ckpt .ts .safetensors .whl .sig
    .pem .asc .pub .sha256 .onnx .bin
    """
)
_WEIGHTS = frozenset((".pt", ".pth", ".ckpt", ".ts", ".bin"))


def name_extension(path: str) -> str:
    """Return the last suffix of a file's name in lower case, with its dot.

    Example:
        >>> name_extension("models/model.PT"), name_extension("LICENSE")
        ('.pt', '')
    """
    return re.search(r"(\.[^./]*)?$", path.lower())[0]  # type: ignore[index]


def check_code(path: str, head: bytes) -> Iterator[Finding]:
    """Yield a finding if a file is code or a pickle, or of a kind that bundles do not need.

    Args:
        path: within the bundle.
        head: its first bytes.
    """
    name, suffix = path.lower().rpartition("/")[2], name_extension(path)
    if name[:1] in ("$", "%", "@") or "/$" in path or "/%" in path or "/@" in path or path[:1] in ("$", "%", "@"):
        yield make_finding("file-name-sign", path)
    if _HOOKS.fullmatch(name) or (suffix == ".pth" and _IMPORT_LINE.search(head)):
        yield make_finding("site-hook", path)
    elif suffix == ".ipynb" or head.lstrip().startswith(b'{"cells"'):
        yield make_finding("notebook", path)
    elif suffix in _PICKLES or (is_pickle(head) and suffix not in _WEIGHTS):
        yield make_finding("pickle-file", path)
    elif suffix == ".npy" or head.startswith(b"\x93NUMPY"):
        yield make_finding("object-array" if _holds_objects(head) else "array-file", path)
    elif suffix in _CODE or name in _CODE_NAMES or head.startswith(_MAGIC):
        yield make_finding("unexpected-code", path)


def is_known(path: str) -> bool:
    """Return whether bundles need files of this kind.

    Example:
        >>> is_known("configs/train.json"), is_known("LICENSE"), is_known("notes.xyz")
        (True, True, False)
    """
    name, suffix = path.rpartition("/")[2], name_extension(path)
    return (
        suffix in _KNOWN or re.fullmatch(r"[A-Z0-9_-]+", name) is not None or name in (".gitattributes", ".gitignore")
    )


def is_text(head: bytes) -> bool:
    r"""Return whether the first bytes of a file are those of a text.

    Example:
        >>> is_text("Größe\tAlter\r\n".encode()), is_text(b"PK\x03\x04")
        (True, False)
    """
    return re.search(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]", head) is None


def _holds_objects(head: bytes) -> bool:
    """Return whether the header of a NumPy file names Python objects."""
    found = re.search(rb"'descr'\s*:\s*(.{0,2000}?)\s*,\s*'fortran_order'", head, re.DOTALL)
    return found is None or b"O" in found[1]


def summarise_code(path: str, content: bytes | None) -> Finding:
    """Return the imports and calls of code that the receiver allowed.

    Args:
        path: within the bundle.
        content: None if the file is too large to be read.
    """
    try:
        nodes = list(ast.walk(ast.parse(content or b"")))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        nodes = []
    if not path.endswith((".py", ".pyw")) or content is None or not nodes:
        return make_finding("code-summary", path, "", f"{len(content or b'')} bytes that are not Python's source")
    imports = sorted({name for node in nodes for name in _name_imports(node)})
    calls = Counter(ast.unparse(node.func)[:60] for node in nodes if isinstance(node, ast.Call))
    most = ", ".join(name for name, _ in calls.most_common(12)) or "nothing"
    return make_finding("code-summary", path, "", f"imports {', '.join(imports) or 'nothing'}; calls {most[:300]}")


def _name_imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield f"{'.' * node.level}{node.module or ''}"


def read_head(stream: IO[bytes], size: int = 4096) -> bytes:
    """Return the first bytes of a stream, and rewind it."""
    head = stream.read(size)
    stream.seek(0)
    return head
