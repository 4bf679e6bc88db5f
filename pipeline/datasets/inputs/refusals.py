"""Inputs that are refused: the first one ends the search, or each is told and left out."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.issues import InputError

#: One input, or several
Inputs = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
#: Gets the path of an input that is refused, and why in one line
Refuse = Callable[[str, str], None]


def list_paths(input: Inputs) -> list[Path]:
    """Return the absolute paths of one input or of several, each once.

    Raises:
        InputError: there is none.

    Example:
        >>> [path.name for path in list_paths(["a/x.png", "a/../a/x.png"])]
        ['x.png']
    """
    given = [input] if isinstance(input, str | os.PathLike) else list(input)
    if not given:
        raise InputError("no input was named; expected a file or a folder")
    return [Path(path) for path in dict.fromkeys(os.path.abspath(os.path.expanduser(path)) for path in given)]


@contextmanager
def keep_going(path: Path, refused: Refuse | None) -> Iterator[None]:
    """Tell an `InputError` to ``refused`` instead of raising it.

    Args:
        path: the input that is looked at.
        refused: None raises.

    Example:
        >>> with keep_going(Path("a.png"), lambda path, why: print(path, "-", why)):
        ...     raise InputError("a.png is empty")
        a.png - a.png is empty
    """
    try:
        yield
    except InputError as error:
        if refused is None:
            raise
        refused(str(path), str(error))
