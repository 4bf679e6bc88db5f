"""What a command was not told, asked for on a terminal, or told in one line where there is nobody to ask."""

from __future__ import annotations

import sys

from pipeline.issues import InputError


def is_interactive() -> bool:
    """Return whether there is somebody to ask."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask(question: str, option: str, default: str = "") -> str:
    """Ask on the terminal for what an option was not given for.

    Args:
        question: what is asked for.
        option: that says it without a question.
        default: taken for an empty answer; "" if there is none.

    Returns:
        The answer, stripped.

    Raises:
        InputError: nobody can be asked, or the answer is empty and there is no default.
    """
    if not is_interactive():
        raise InputError(f"{question} was not told, and nobody can be asked; say it with {option}")
    print(f"{question}{f' [{default}]' if default else ''}: ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline().strip() or default
    if not answer:
        raise InputError(f"{question} was not told; say it with {option}")
    return answer
