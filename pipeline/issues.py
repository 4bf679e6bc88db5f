"""The finding of a check (`Issue`), and the error that a user can fix (`InputError`)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["error", "warning"]
# Spaces of other scripts, and the marks that join or part letters in some.
_HARMLESS = " \xa0\u202f\u3000\u200c\u200d"
_FROM_WORKER = "Caught InputError in "


def show_controls(text: object) -> str:
    r"""Return the text with control characters and marks of writing direction as escapes.

    Names come from files that others wrote; a terminal would obey the codes in them.

    Example:
        >>> show_controls("a\u202eb\n\x1b[31m")
        'a\\u202eb\\n\\x1b[31m'
    """
    return "".join(
        char if char.isprintable() or char in _HARMLESS else char.encode("unicode_escape").decode("ascii")
        for char in str(text)
    )


def join_lines(text: str) -> str:
    r"""Return the text as one line without codes that a terminal would obey, see `show_controls`.

    Spaces within a line are kept, because they may be part of a path.

    Example:
        >>> join_lines("a  b\n  c\x1b[0m")
        'a  b c\\x1b[0m'
    """
    return show_controls(" ".join(line.strip() for line in text.splitlines()))


@dataclass(frozen=True)
class Issue:
    """One finding of a check.

    Example:
        >>> Issue("empty-file", "error", "the file holds 0 bytes", record="case_1", path="a/1.tif").one_line()
        'error empty-file a/1.tif [case_1]: the file holds 0 bytes'
    """

    code: str  #: stable kebab-case name, for example ``"missing-file"``; documentation and tests refer to it
    severity: Severity  #: ``"error"`` blocks, ``"warning"`` does not
    message: str  #: the finding, with the values observed
    record: str = ""  #: id of the case, or the place in the manifest (``"cases[12].label"``)
    path: str = ""  #: the file, relative to the dataset's folder
    hint: str = ""  #: the next step: a command to type or a change to make

    def where(self) -> str:
        """Return the file and the record, as far as they are known."""
        record = f"[{self.record}]" if self.record and self.path else self.record
        return " ".join(part for part in (self.path, record) if part)

    def one_line(self) -> str:
        """Return the finding as one line."""
        head = " ".join(part for part in (self.severity, self.code, self.where()) if part)
        return join_lines(f"{head}: {self.message}" + (f"; {self.hint}" if self.hint else ""))

    def to_dict(self) -> dict[str, str]:
        """Return all six fields as strings, for JSON."""
        return asdict(self)


class InputError(Exception):
    """A problem that the user can fix, reported in one line.

    Commands print the line and exit with 1, see `pipeline.handlers.OneLineErrors`. In Python, and so in clients such as
    MONAI Label and NVFlare, it is an ordinary exception. MONAI wraps what is raised while a config is built in other
    exceptions: `find_input_error` finds it again.

    Args:
        message: the problem, its place, the expected value and the next command. Line breaks become spaces.

    Example:
        >>> str(InputError("no such folder: data"))
        'no such folder: data'
    """

    def __init__(self, message: str) -> None:
        """Join the message into one line."""
        # torch raises the error of a loader's worker again with the worker's trace as its message.
        text = message.rpartition(f"{__name__}.InputError: ")[2] if message.startswith(_FROM_WORKER) else message
        super().__init__(join_lines(text.strip() if text is not message else text))


def find_input_error(error: BaseException) -> InputError | None:
    """Return the first `InputError` among an error and its causes, None if there is none.

    Example:
        >>> wrapped = RuntimeError("Failed to instantiate component")
        >>> wrapped.__cause__ = InputError("no such folder: data")
        >>> find_input_error(wrapped)
        InputError('no such folder: data')
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__  # not the context, which may be an error that was handled
    return cause


def summarise(issues: Sequence[Issue]) -> str:
    """Return the first error in words and how many more there are.

    Args:
        issues: at least one issue; errors are named before warnings.

    Example:
        >>> a = Issue("empty-file", "error", "0 bytes", path="a.tif")
        >>> summarise([a, a, a])
        'empty-file a.tif: 0 bytes (and 2 more)'
    """
    first = next((issue for issue in issues if issue.severity == "error"), issues[0])
    line = first.one_line().removeprefix(f"{first.severity} ")
    return line if len(issues) == 1 else f"{line} (and {len(issues) - 1} more)"


def count_by_code(issues: Sequence[Issue]) -> dict[str, int]:
    """Return how often each code occurs, errors first, then by name."""
    counts = Counter((issue.severity, issue.code) for issue in issues)
    return {code: counts[severity, code] for severity, code in sorted(counts)}


def format_examples(lines: Sequence[str]) -> str:
    """Return the end of a help text: commands to copy.

    Example:
        >>> print(format_examples(["dataset build lgg kaggle_3m -o lgg.json"]))
        examples:
          python -m pipeline dataset build lgg kaggle_3m -o lgg.json
    """
    return "\n".join(["examples:", *(f"  python -m pipeline {line}" for line in lines)])
