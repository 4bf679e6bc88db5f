"""Check a logging configuration, whose fields Python evaluates: the rule of MONAI's own check, and more.

MONAI 1.6.1 refuses what is an error here (``monai.bundle.workflows``); older versions run it.
"""

import ast
import configparser
import io
import logging
import logging.handlers
from collections.abc import Iterator

from pipeline.bundle.audit.finding import Finding, make_finding, shorten

_STREAMS = {"sys.stdout", "sys.stderr"}
_HARMLESS = (logging.StreamHandler, logging.NullHandler, logging.handlers.MemoryHandler)
_LITERALS = (ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.Load)


def is_logging_file(path: str) -> bool:
    """Return whether a file is one that ``fileConfig`` may read.

    Example:
        >>> is_logging_file("configs/logging.conf"), is_logging_file("LICENSE")
        (True, False)
    """
    return path.lower().endswith((".conf", ".ini", ".cfg"))


def check_logging(file: str, content: bytes | None) -> Iterator[Finding]:
    """Yield fields that would run code, and handlers that write files or use the network.

    Args:
        file: path within the bundle.
        content: None if the file is too large to be read.
    """
    if content is None:
        yield make_finding("logging-code", file, "", "it is too large to be judged", todo="write it shorter")
        return
    # As `fileConfig` reads it: other fields are put in the place of %(field)s, and every kind of line end counts.
    parser = configparser.ConfigParser()
    try:
        parser.read_string(io.TextIOWrapper(io.BytesIO(content), encoding="utf-8").read())
    except (configparser.Error, UnicodeDecodeError) as error:
        yield _refuse_syntax(file, "", error)
        return
    for section in parser.sections():
        for field in ("class", "args", "kwargs"):  # `fileConfig` takes all other fields as texts
            place = f"{section}.{field}"
            try:
                value = parser.get(section, field, fallback="").strip()
            except configparser.Error as error:
                yield _refuse_syntax(file, place, error)
                continue
            if value:
                check = _check_class if field == "class" else _check_literal
                yield from check(file, place, value)


def _refuse_syntax(file: str, place: str, error: Exception) -> Finding:
    return make_finding("logging-code", file, place, " ".join(str(error).split())[:200], todo="mend the file")


def _check_class(file: str, place: str, value: str) -> Iterator[Finding]:
    module, _, name = value.rpartition(".")
    source = {"": logging, "logging": logging, "logging.handlers": logging.handlers}.get(module)
    found = getattr(source, name, None) if source and name.isidentifier() else None
    if not isinstance(found, type) or not issubclass(found, logging.Handler | logging.Formatter):
        yield make_finding("logging-code", file, place, f"class={shorten(value)}")
    elif issubclass(found, logging.Handler) and found not in _HARMLESS:
        yield make_finding("logging-review", file, place, f"class={value}")


def _check_literal(file: str, place: str, value: str) -> Iterator[Finding]:
    try:
        nodes = list(ast.walk(ast.parse(value, mode="eval").body)) if len(value) < 2000 else []
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        nodes = []
    names = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute | ast.Name)}
    plain = all(isinstance(node, (*_LITERALS, ast.Attribute, ast.Name)) for node in nodes)
    if not nodes or not plain or names - _STREAMS - {"sys"}:
        yield make_finding("logging-code", file, place, shorten(value))
