"""Ask on a terminal for what the options of a command do not give."""

import sys

from pipeline.issues import InputError


def is_interactive() -> bool:
    """Return whether standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask(question: str, option: str, default: str | None = None) -> str:
    """Ask on the terminal for what an option was not given for.

    Args:
        question: what is asked for.
        option: the option that gives the answer without a question.
        default: taken for an empty answer; None if an answer is required.

    Returns:
        The answer, stripped.

    Raises:
        InputError: standard input is not a terminal, or the answer is empty and there is no default.
    """
    if not is_interactive():
        raise InputError(f"the {question} is required when not run interactively; pass {option}")
    print(f"{question}{f' [{default}]' if default else ''}: ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline().strip()
    if not answer and not default and default != "":
        raise InputError(f"the {question} is required; pass {option}")
    return answer or default or ""
