"""Constants and operators in expressions that can fill the memory, never end, or name what must not be named."""

import ast
import operator
import re

from pipeline.bundle.audit.finding import shorten
from pipeline.bundle.audit.language.target_policy import STANDARD, Verdict

LARGEST = 10**8
LONGEST_REPEAT = 10_000
LONGEST_TEXT = 2000
MOST_CHARACTERS = 4000
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
# Names of files that end so lead to nothing that runs.
_FILE = re.compile(r".*\.(json|csv|tsv|conf|txt|ya?ml|pt|png|jpe?g|nii|gz|zip|npy|npz)", re.IGNORECASE)
_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Pow: operator.pow}
_WIDTH = re.compile(r"[%:{.]\s*\D{0,3}\d{4,}")


def names_standard_module(text: str) -> bool:
    """Return whether a text is the dotted name of something in Python's own modules.

    Example:
        >>> names_standard_module("subprocess.Popen"), names_standard_module("statistics.json")
        (True, False)
    """
    return bool(_DOTTED.fullmatch(text)) and text.partition(".")[0] in STANDARD and not _FILE.fullmatch(text)


def judge_constant(value: object) -> Verdict:
    """Judge a constant of an expression."""
    if isinstance(value, bytes) or (isinstance(value, str) and len(value) > LONGEST_TEXT):
        return Verdict("expression-size", f"a text of {len(value)} characters")
    if isinstance(value, str):
        if names_standard_module(value.strip(". ")):
            return Verdict("expression-attribute", f"the text {shorten(value)} names one of Python's modules")
        if "__" in value:
            return Verdict("expression-attribute", f"the text {shorten(value)} names Python's inside")
        if _WIDTH.search(value):
            return Verdict("expression-size", f"the text {shorten(value)} asks for a giant width")
        if ADDRESS.match(value):
            return Verdict("url-in-config", shorten(value))
    elif isinstance(value, int | float | complex) and not isinstance(value, bool) and abs(value) > LARGEST:
        shown = f"{value:.3g}" if abs(value) < 1e300 else "of very many digits"
        return Verdict("expression-size", f"the number {shown} is larger than {LARGEST:g}")
    return Verdict("")


def judge_operator(node: ast.BinOp) -> Verdict:
    """Judge an operator by the constants on its sides.

    Example:
        >>> judge_operator(ast.parse("9**9**9", mode="eval").body).code
        'expression-size'
        >>> judge_operator(ast.parse("2**5", mode="eval").body).code
        ''
    """
    text = ast.unparse(node)[:80]
    if isinstance(node.op, ast.Pow | ast.LShift):
        left, right = read_number(node.left), read_number(node.right)
        most = 16 if isinstance(node.op, ast.Pow) else 32
        if right is None or left is None:
            growing = right is None and not _is_literal(node.right)
            return Verdict("expression-review" if growing or right is not None else "expression-size", text)
        too_large = abs(right) > most or abs(left) > 1000
        return Verdict("expression-size", text) if too_large else Verdict("")
    if isinstance(node.op, ast.Mult) and (_is_sequence(node.left) or _is_sequence(node.right)):
        times = read_number(node.right if _is_sequence(node.left) else node.left)
        nested = any(isinstance(part, ast.BinOp) and isinstance(part.op, ast.Mult) for part in (node.left, node.right))
        if nested or (times is not None and times > LONGEST_REPEAT):
            return Verdict("expression-size", text)
        return Verdict("expression-review", text) if times is None else Verdict("")
    if isinstance(node.op, ast.MatMult):
        return Verdict("expression-node", text)
    return Verdict("")


def read_number(node: ast.expr) -> float | None:
    """Return the number that constants and operators make, infinity if it is too large; None for anything else.

    Example:
        >>> read_number(ast.parse("2 * 10**3", mode="eval").body)
        2000.0
    """
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(min(node.value, 1e300))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        return read_number(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = read_number(node.left), read_number(node.right)
        if left is None or right is None:
            return None
        try:
            return float(_OPERATORS[type(node.op)](left, right))
        except (OverflowError, ZeroDivisionError, TypeError):
            return float("inf")
    return None


def _is_literal(node: ast.expr) -> bool:
    return all(
        isinstance(part, ast.Constant | ast.BinOp | ast.UnaryOp | ast.operator | ast.unaryop) for part in ast.walk(node)
    )


def _is_sequence(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Add):
        return _is_sequence(node.left) or _is_sequence(node.right)
    text = isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    return text or isinstance(node, ast.List | ast.Tuple | ast.JoinedStr | ast.ListComp)
