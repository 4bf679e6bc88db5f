"""Standard JSON without duplicate keys and NaN; findings have line and column."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from pipeline.issues import Issue

# A faulty program can produce millions of the same finding.
MAX_FINDINGS = 100
# Possessive, so that a long text takes no memory for ways back.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]:]|NaN|-?Infinity', re.DOTALL)


def parse_json(content: bytes) -> tuple[Any, list[Issue]]:
    """Read strict JSON: no duplicate keys, no NaN or Infinity.

    Returns the value (None if there are findings) and ``manifest-syntax`` findings with line and column.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return None, [_syntax_issue(f"byte {error.start} is not UTF-8", "save the file as UTF-8")]
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        message = f"line {error.lineno} column {error.colno}: {error.msg}"
        return None, [_syntax_issue(message, _suggest_repair(text, error.pos))]
    except (RecursionError, ValueError) as error:
        return None, [_syntax_issue(f"not usable JSON: {type(error).__name__}: {error}")]
    issues = list(islice(find_loose_json(text), MAX_FINDINGS))
    return (None if issues else data), issues


def _suggest_repair(text: str, position: int) -> str:
    before, after = text[:position].rstrip(), text[position:].lstrip()
    # Python 3.13 points to the comma, older versions after it.
    if before.endswith(",") and after[:1] in ("}", "]"):
        return "remove the comma before it"
    if after[:1] == "," and after[1:].lstrip()[:1] in ("}", "]"):
        return "remove the comma"
    return "" if text.lstrip()[:1] in ("{", "[") else "expected JSON, which starts with {; YAML is not read"


def _syntax_issue(message: str, hint: str = "") -> Issue:
    return Issue("manifest-syntax", "error", message, hint=hint)


def find_loose_json(text: str) -> Iterator[Issue]:
    """Yield a finding for each duplicate key, NaN and Infinity, which Python's parser accepts.

    The text must be JSON that `json.loads` has accepted. The time taken grows with its length alone.
    """
    line, line_start, counted = 1, 0, 0
    open_objects: list[set[str]] = []
    previous: re.Match[str] | None = None
    for token in _TOKEN.finditer(text):
        sign = token[0]
        message = ""
        if sign in "{[":
            open_objects.append(set())
        elif sign in "}]":
            open_objects.pop()
        elif sign == ":" and previous is not None:
            key = json.loads(previous[0])
            if key in open_objects[-1]:
                message = f"duplicate key {key!r}"
            open_objects[-1].add(key)
        elif sign[0] != '"':
            message = f"{sign} is not a JSON number"
        if message:
            at = previous if sign == ":" and previous is not None else token
            # Counting from the finding before keeps the time linear.
            line += text.count("\n", counted, at.start())
            line_start = max(line_start, text.rfind("\n", counted, at.start()) + 1)
            counted = at.start()
            yield _syntax_issue(f"line {line} column {at.start() - line_start + 1}: {message}")
        previous = token
