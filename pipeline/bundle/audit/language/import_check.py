"""Judge the imports in configs, and what expressions can name: MONAI makes every import known to every expression."""

import ast
from dataclasses import dataclass, field

from pipeline.bundle.audit.language.installed_names import FOLLOWED
from pipeline.bundle.audit.language.target_policy import ALLOWED, Verdict, judge_name
from pipeline.bundle.audit.word_list import read_words

IMPORT_REVIEW = read_words("os glob pathlib json functools itertools copy re random time datetime")
IMPORT_ALLOWED = frozenset({"math", "collections", "operator"})


@dataclass(frozen=True)
class Names:
    """What the expressions of a bundle can name."""

    aliases: dict[str, set[str]] = field(default_factory=dict)  #: imported name -> modules or objects that it can mean
    own_modules: frozenset[str] = frozenset()  #: top-level modules and packages in the bundle
    allowed: frozenset[str] = frozenset()  #: names that the receiver allows

    def judge(self, name: str, *, value: bool = False) -> Verdict:
        """Judge a dotted name within an expression."""
        return ALLOWED if name in self.allowed else judge_name(name, self.own_modules, value=value)


#: What MONAI puts into the names of every expression.
DEFAULT_ALIASES = {"monai": {"monai"}, "torch": {"torch"}, "np": {"numpy"}, "numpy": {"numpy"}}


def read_import(text: str) -> ast.Import | ast.ImportFrom | None:
    """Return the import statement that MONAI runs for an expression; None if it is none."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    return body[0] if body and isinstance(body[0], ast.Import | ast.ImportFrom) else None


def name_import(node: ast.Import | ast.ImportFrom) -> tuple[str, str]:
    """Return the name that MONAI binds and what it leads to: it takes only the first of several names."""
    first = node.names[0]
    full = first.name if isinstance(node, ast.Import) else f"{'.' * node.level}{node.module or ''}.{first.name}"
    return first.asname or first.name, full


def judge_import(node: ast.Import | ast.ImportFrom, names: Names) -> Verdict:
    """Judge an import statement."""
    alias, full = name_import(node)
    root = full.partition(".")[0]
    if full in names.allowed and alias not in DEFAULT_ALIASES:
        return ALLOWED
    if len(node.names) > 1 or alias == "*" or any(part.startswith("_") for part in full.split(".")):
        return Verdict("expression-import", ast.unparse(node))
    if alias in DEFAULT_ALIASES and full not in DEFAULT_ALIASES[alias]:
        return Verdict("expression-import", f"{ast.unparse(node)}: {alias} would mean something else everywhere")
    if root in names.own_modules and root not in FOLLOWED:
        return Verdict("bundle-code", ast.unparse(node))
    if root in IMPORT_REVIEW or root in IMPORT_ALLOWED:
        verdict = names.judge(full, value=True) if isinstance(node, ast.ImportFrom) else ALLOWED
        if verdict.code not in ("", "target-review"):
            return Verdict("expression-import", verdict.why)
        return Verdict("expression-review" if root in IMPORT_REVIEW else "", ast.unparse(node))
    if root not in FOLLOWED:
        return Verdict("expression-import", ast.unparse(node))
    verdict = names.judge(full, value=True)
    if verdict.code == "target-module" or full in DEFAULT_ALIASES:
        return ALLOWED
    return Verdict("expression-import", verdict.why) if verdict.code not in ("", "target-review") else verdict
