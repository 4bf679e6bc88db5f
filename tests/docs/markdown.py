"""The project's Markdown files: their code blocks, marks, links and anchors."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^( *)```(\w*)$")
_MARK = re.compile(r"^ *<!-- (needs|slow)(?:: ([^>]+?))? -->$")


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Args:
        document: path relative to the repository.
        line: number of its first line of code.
        language: ``bash``, ``python``, ``json`` or ``text``.
        text: the code, without the fence's indentation.
        mark: ``needs`` (not executed), ``slow`` (executed by the slow tests) or "".
        reason: what follows the mark.
    """

    document: str
    line: int
    language: str
    text: str
    mark: str = ""
    reason: str = ""

    @property
    def name(self) -> str:
        return f"{self.document}:{self.line}"

    def list_commands(self) -> list[list[str]]:
        """Return the words of each command."""
        lines = self.text.replace("\\\n", " ").splitlines()
        # In a config's id, # is no comment.
        return [words for line in lines if (words := shlex.split(re.sub(r"(^|\s)#.*", "", line)))]


def list_documents() -> list[str]:
    """Return the documents whose blocks are tested; model cards have a test of their own."""
    top = ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "data_manifests/README.md"]
    return top + sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))


def list_linked() -> list[str]:
    """Return the documents whose links are tested."""
    cards = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("bundles/*/docs/README.md"))
    return [*list_documents(), "CHANGELOG.md", *cards]


def read_text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def read_blocks(document: str) -> list[Block]:
    """Return the code blocks of a document in their order."""
    blocks, lines, mark = [], iter(enumerate(read_text(document).splitlines(), 1)), None
    for number, line in lines:
        if found := _FENCE.match(line):
            code = "\n".join(text.removeprefix(found[1]) for text in _take_code(lines))
            kind, reason = (mark[1], mark[2] or "") if mark else ("", "")
            blocks.append(Block(document, number + 1, found[2], code, kind, reason))
        mark = _MARK.match(line) if line.strip() else mark
    return blocks


def _take_code(lines: Iterator[tuple[int, str]]) -> Iterator[str]:
    for _, line in lines:
        if line.strip() == "```":
            return
        yield line


def strip_code(text: str) -> str:
    """Return a document without its code blocks and code spans."""
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def list_links(text: str) -> list[str]:
    """Return the targets of links and pictures that are no web addresses."""
    return re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", strip_code(text))


def list_anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    plain = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", plain, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", title).lower()).replace(" ", "-") for title in titles}


def list_rows(text: str, header: str) -> list[list[str]]:
    """Return the cells of a table, found by the first cell of its header."""
    lines = text.split(f"\n| {header} |", 1)[1].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows
