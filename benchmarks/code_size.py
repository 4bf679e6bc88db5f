"""Count the package's code: lines and modules by room, and how long its functions are.

    python benchmarks/code_size.py            a table
    python benchmarks/code_size.py --longest 20 pipeline/crf

Lines are all lines of ``*.py`` files. A function's length runs from its ``def``, without decorators, to its last line,
with its docstring; nested functions are counted separately as well.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles


def measure_functions(path: Path) -> Iterator[tuple[int, str]]:
    """Yield length and place of each function of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1, f"{path}:{node.lineno} {node.name}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, default=Path("pipeline"), help="folder (default: pipeline)")
    parser.add_argument("--longest", type=int, default=3, metavar="N", help="functions to name (default: 3)")
    args = parser.parse_args()
    files = sorted(args.root.rglob("*.py"))
    lines, modules = Counter[str](), Counter[str]()
    for path in files:
        room = path.relative_to(args.root).parts[0]
        lines[room] += len(path.read_text(encoding="utf-8").splitlines())
        modules[room] += 1
    for room, count in lines.most_common():
        print(f"{room:<24}{count:>7} lines {modules[room]:>4} modules")
    print(f"{'all':<24}{sum(lines.values()):>7} lines {len(files):>4} modules")
    functions = sorted(length for path in files for length in measure_functions(path))
    lengths = [length for length, _ in functions]
    print(
        f"functions: {len(lengths)}, median {median(lengths):g}, 90th percentile {quantiles(lengths, n=10)[-1]:g} lines"
    )
    for length, place in functions[: -args.longest - 1 : -1]:
        print(f"  {length:>3} {place}")


if __name__ == "__main__":
    main()
