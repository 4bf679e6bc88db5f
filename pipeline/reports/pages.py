"""Render and write pages: self-contained HTML without a request, and Markdown; all names are untrusted text."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.atomic import write_atomically
from pipeline.datasets.checks.report import plural
from pipeline.issues import show_controls

if TYPE_CHECKING:
    from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"
_SPECIAL = "\\`*_{}[]<>()#+-.!|~&$"


def render_template(name: str, **values: Any) -> str:
    """Return a page as text.

    Args:
        name: a template; in Markdown (``.md``) the templates themselves use the filter ``md`` for all that is text.
        values: what it shows.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.reports"),
        autoescape=name.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": show_controls,
        "breakable": make_breakable,
        "plural": plural,
        "number": format_number,
        "p_value": format_p,
        "md": escape_markdown,
    }
    return environment.get_template(name).render(**values, script=read_script, digest=digest_script)


def write_page(text: str, path: str | os.PathLike[str]) -> Path:
    """Write a page, completely or not at all, and return its path.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        with write_atomically(path, "wb") as stream:
            # A file name that is not valid Unicode cannot be written as UTF-8.
            stream.write(text.encode("utf-8", errors="backslashreplace"))
    except OSError as error:  # which names the temporary file
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    return Path(path)


def make_breakable(text: object) -> Markup:
    """Return a path as escaped HTML that may break after each slash and underscore."""
    from markupsafe import Markup, escape

    escaped = str(escape(show_controls(text)))
    return Markup(escaped.replace("/", "/<wbr>").replace("_", "_<wbr>"))


def format_number(value: float | None, digits: int = 3) -> str:
    """Return a number with a fixed number of digits, "-" for none.

    Example:
        >>> format_number(0.81649), format_number(None), format_number(0.0004, 3)
        ('0.816', '-', '0.000')
    """
    return "-" if value is None else f"{value:.{digits}f}"


def format_p(value: float) -> str:
    """Return a p value; one that is small is not shown as 0, which no test can give.

    Example:
        >>> format_p(0.03125), format_p(0.00002)
        ('0.0312', '<0.0001')
    """
    return "<0.0001" if value < 0.0001 else format_number(value, 4)


def escape_markdown(text: object) -> str:
    r"""Return a text whose characters mean nothing in Markdown, HTML included.

    Example:
        >>> escape_markdown("a_b <i>|")
        'a\\_b \\<i\\>\\|'
    """
    return "".join(f"\\{char}" if char in _SPECIAL else char for char in show_controls(text))


def read_script(name: str) -> Markup:
    """Return a script of the templates, which holds nothing that is not ours."""
    from markupsafe import Markup

    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))


def digest_script(name: str) -> str:
    """Return the digest of a script as a content security policy names it, so that no other script runs."""
    return "sha256-" + base64.b64encode(hashlib.sha256(read_script(name).encode("utf-8")).digest()).decode("ascii")
