"""Judge the expressions of configs by their syntax tree: what is not known to be harmless is a finding.

MONAI puts the text ``__local_refs['id']`` in the place of every ``@id``, in strings too, and parses the result. The
same is done here, because the change can turn a string into code: ``'@f {1/0} '`` becomes an f-string.
"""

import ast
import re
from collections.abc import Callable, Iterator, Sequence

from pipeline.bundle.audit.language.constant_limits import (
    MOST_CHARACTERS,
    judge_constant,
    judge_operator,
    read_number,
)
from pipeline.bundle.audit.language.import_check import Names
from pipeline.bundle.audit.language.target_policy import (
    HARMLESS,
    Verdict,
    find_rule,
    judge_target,
)
from pipeline.bundle.audit.word_list import read_words

_REFS = "__local_refs"
_REFERENCE = re.compile(r"@\w*(?:::\w*)*")
# What loads a class whose name it is given, see `pipeline.bundle.audit.language.config_items`.
LOADS_CLASSES = re.compile(r"(Load|Save)Image(d|D|Dict)?|PatchInferer")
NAMING_ARGUMENTS = frozenset({"reader", "writer", "merger_cls"})
_MODULES_AS_VALUES = frozenset({"os.path"})
_REVIEWED = frozenset({"print", "map", "filter"})
# How public bundles set torch's switches.
_SWITCH = re.compile(
    r"setattr\(torch\.backends(\.\w+)*, '(benchmark|deterministic|enabled|allow_tf32)', (True|False)\)"
)
# Methods of networks, tensors, trainers, optimisers, texts, lists and dicts that reach nothing else.
_METHODS = read_words("""
    abs append astype bool capitalize clone contiguous copy count cpu cuda detach dim double endswith eval extend
    float flatten format get half index int item items join keys load_state_dict long lower lstrip max mean min modules
    named_parameters ndimension numel numpy parameters permute pop replace requires_grad_ reshape round rpartition
    rsplit rstrip run size sort split squeeze startswith state_dict std strip sum title to tolist train transpose type
    unsqueeze update upper values view zero_grad
    """)
_DENIED = read_words("""
    os sys subprocess builtins importlib shutil pickle socket ctypes pty posix nt runpy pdb marshal multiprocessing
    threading asyncio code codeop webbrowser tempfile inspect types gc signal site imp
    system popen spawnl spawnv execv execl execve execvp fork forkpty kill killpg startfile putenv run_module run_path
    unlink remove removedirs rmdir rmtree rename renames replace_file symlink_to hardlink_to chmod lchmod chown touch
    mkdir makedirs write write_text write_bytes writelines tofile dump dumps_to save save_state open
    gi_frame gi_code cr_frame f_globals f_locals f_builtins f_back tb_frame func_globals mro
    register_class set_dir load_state_dict_from_url load_library apply_async map_async
    """)


def put_references(text: str) -> tuple[str, list[str]]:
    """Return an expression's text as MONAI evaluates it, and the ids that it refers to.

    Args:
        text: without ``$``, with ``::`` between the parts of ids.

    Example:
        >>> put_references("@net.to(@device)")
        ("__local_refs['net'].to(__local_refs['device'])", ['device', 'net'])
    """
    found = sorted(_REFERENCE.findall(text), key=len, reverse=True)
    for item in found:
        text = text.replace(item, f"{_REFS}['{item[1:]}']")
    return text, [item[1:] for item in dict.fromkeys(found)]


def judge_expression(text: str, names: Names) -> list[Verdict]:
    """Return what is wrong with an expression.

    Args:
        text: without ``$``, references replaced by `put_references`.
        names: what it can name.

    Example:
        >>> names = Names({"torch": {"torch"}})
        >>> judge_expression("torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')", names)
        []
        >>> [verdict.code for verdict in judge_expression("__import__('os').system('true')", names)]
        ['expression-name', 'expression-attribute']
    """
    if len(text) > MOST_CHARACTERS:
        return [Verdict("expression-size", f"{len(text)} characters, more than {MOST_CHARACTERS}")]
    try:
        # As MONAI does: this also refuses the leading blanks that `eval` accepts.
        ast.parse(text)
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError) as error:
        return [Verdict("expression-syntax", getattr(error, "msg", str(error)))]
    except (MemoryError, RecursionError):
        return [Verdict("expression-size", "it is nested too deeply")]
    try:
        return [verdict for verdict in dict.fromkeys(_Judge(names).judge(tree, frozenset())) if verdict.code]
    except RecursionError:
        return [Verdict("expression-size", "it is nested too deeply")]
    except (ValueError, OverflowError) as error:  # Python does not write numbers of thousands of digits
        return [Verdict("expression-size", str(error)[:120])]


class _Judge:
    """Walks a tree.

    Args:
        names: what the expression can name.
    """

    def __init__(self, names: Names) -> None:
        self.names = names
        self.kinds: dict[type[ast.AST], Callable[..., Iterator[Verdict]]] = {
            ast.Constant: self._constant,
            ast.Name: self._name,
            ast.Attribute: self._attribute,
            ast.Subscript: self._subscript,
            ast.Call: self._call,
            ast.BinOp: self._operator,
            ast.Lambda: self._lambda,
            **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), self._comprehension),
            **dict.fromkeys(
                (ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Slice),
                self._children,
            ),
            **dict.fromkeys((ast.Starred, ast.JoinedStr), self._children),
            ast.FormattedValue: self._formatted,
        }

    def judge(self, node: ast.AST, scope: frozenset[str]) -> Iterator[Verdict]:
        """Yield what is wrong with a node and all below it."""
        kind = self.kinds.get(type(node))
        if kind is None:
            yield Verdict("expression-node", type(node).__name__)
        else:
            yield from kind(node, scope)

    def _children(self, node: ast.AST, scope: frozenset[str]) -> Iterator[Verdict]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr | ast.keyword):
                yield from self.judge(child, scope)

    def _constant(self, node: ast.Constant, scope: frozenset[str]) -> Iterator[Verdict]:
        yield judge_constant(node.value)

    def _operator(self, node: ast.BinOp, scope: frozenset[str]) -> Iterator[Verdict]:
        yield judge_operator(node)
        yield from self._children(node, scope)

    def _formatted(self, node: ast.FormattedValue, scope: frozenset[str]) -> Iterator[Verdict]:
        if node.format_spec and re.search(r"\d{4,}", ast.unparse(node.format_spec)):
            yield Verdict("expression-size", f"the format {ast.unparse(node.format_spec)[:60]} asks for a giant width")
        yield from self._children(node, scope)

    def _name(self, node: ast.Name, scope: frozenset[str]) -> Iterator[Verdict]:
        if node.id in scope:
            return
        if node.id in self.names.aliases:
            yield from self._dotted([node.id], called=False)
        elif node.id not in HARMLESS:
            yield Verdict("expression-name", node.id)

    def _attribute(self, node: ast.Attribute, scope: frozenset[str]) -> Iterator[Verdict]:
        yield from self._chain(node, scope, called=False)

    def _chain(self, node: ast.Attribute, scope: frozenset[str], *, called: bool) -> Iterator[Verdict]:
        attributes: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            attributes.append(base.attr)
            base = base.value
        attributes.reverse()
        if isinstance(base, ast.Name) and base.id not in scope and base.id in self.names.aliases:
            yield from self._dotted([base.id, *attributes], called=called)
            return
        yield from self.judge(base, scope)
        bad = [name for name in attributes if name.startswith("_") or name in _DENIED]
        for name in bad:
            yield Verdict("expression-attribute", f".{name}")
        if called and not bad and attributes[-1] not in _METHODS:
            yield Verdict("expression-review", f"the method .{attributes[-1]}() of an object that is not known here")

    def _dotted(self, parts: Sequence[str], *, called: bool) -> Iterator[Verdict]:
        """Judge a name that begins with an import."""
        if LOADS_CLASSES.fullmatch(parts[-1]):
            yield Verdict("named-class", f"{parts[-1]} loads classes by name; build it with _target_")
        for start in sorted(self.names.aliases[parts[0]]):
            full = ".".join([start, *parts[1:]])
            verdict = self.names.judge(full, value=not called)
            if (
                verdict.code == "target-module"
                or ("." not in full and find_rule(full) != "allow")
                or full in _MODULES_AS_VALUES
            ):
                yield Verdict("expression-module", full)
            elif verdict.code == "bundle-code":
                yield verdict
            elif verdict.code not in ("", "target-review"):
                yield Verdict("expression-call" if called else "expression-attribute", verdict.why)
            elif _DENIED & set(parts[1:]):
                yield Verdict("expression-attribute", full)
            elif verdict.code:
                yield Verdict("expression-review", verdict.why)

    def _subscript(self, node: ast.Subscript, scope: frozenset[str]) -> Iterator[Verdict]:
        if isinstance(node.value, ast.Name) and node.value.id == _REFS:
            if not isinstance(node.slice, ast.Constant):
                yield Verdict("expression-name", _REFS)
            return
        yield from self._children(node, scope)

    def _call(self, node: ast.Call, scope: frozenset[str]) -> Iterator[Verdict]:
        func = node.func
        if isinstance(func, ast.Attribute):
            yield from self._chain(func, scope, called=True)
        elif isinstance(func, ast.Name) and func.id not in scope and func.id in self.names.aliases:
            yield from self._dotted([func.id], called=True)
        elif isinstance(func, ast.Name) and func.id in HARMLESS | _REVIEWED and func.id not in scope:
            yield from _judge_builtin(func.id, node)
        elif _SWITCH.fullmatch(ast.unparse(node)):
            yield Verdict("expression-review", ast.unparse(node))
            return
        else:
            if not isinstance(func, ast.Name) or func.id in scope:
                yield Verdict("expression-review", f"{ast.unparse(func)[:60]} is called, which is not known here")
            yield from self.judge(func, scope)
        for argument in node.args:
            yield from self.judge(argument, scope)
        for keyword in node.keywords:
            yield from judge_keyword(keyword)
            yield from self.judge(keyword.value, scope)

    def _lambda(self, node: ast.Lambda, scope: frozenset[str]) -> Iterator[Verdict]:
        yield Verdict("expression-review", ast.unparse(node)[:120])
        arguments = node.args
        for default in (*arguments.defaults, *filter(None, arguments.kw_defaults)):
            yield from self.judge(default, scope)
        given = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
        yield from self.judge(node.body, scope | {item.arg for item in given if item})

    def _comprehension(self, node: ast.expr, scope: frozenset[str]) -> Iterator[Verdict]:
        yield Verdict("expression-review", ast.unparse(node)[:120])
        for generator in getattr(node, "generators", []):
            yield from self.judge(generator.iter, scope)
            targets = [part for part in ast.walk(generator.target) if isinstance(part, ast.expr)]
            scope |= {part.id for part in targets if isinstance(part, ast.Name)}
            if not all(isinstance(part, ast.Name | ast.Tuple | ast.List | ast.Starred) for part in targets):
                yield Verdict("expression-node", "a comprehension that assigns to something else than names")
            for condition in generator.ifs:
                yield from self.judge(condition, scope)
        for name in ("elt", "key", "value"):
            if hasattr(node, name):
                yield from self.judge(getattr(node, name), scope)


def _judge_builtin(name: str, node: ast.Call) -> Iterator[Verdict]:
    if name == "range" and any(abs(read_number(argument) or 0) > 10**6 for argument in node.args):
        yield Verdict("expression-size", ast.unparse(node)[:80])
    elif name == "pow" or name in _REVIEWED:
        yield Verdict("expression-review", ast.unparse(node)[:80])


def judge_keyword(node: ast.keyword) -> Iterator[Verdict]:
    """Yield what is wrong with a named argument of a call, by its name."""
    value = node.value
    if node.arg is None:
        yield Verdict("expression-node", "** in a call")
    if node.arg in NAMING_ARGUMENTS and not (isinstance(value, ast.Constant) and value.value is None):
        text = value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
        if text is None or judge_target(text).code:
            yield Verdict("named-class", f"{node.arg}={ast.unparse(value)[:80]}")
    if node.arg == "pretrained" and not (isinstance(value, ast.Constant) and value.value in (False, None)):
        yield Verdict("download-argument", ast.unparse(node)[:80])
    if node.arg == "allow_pickle" and not (isinstance(value, ast.Constant) and value.value is False):
        yield Verdict("unsafe-argument", ast.unparse(node))
    if node.arg == "weights_only" and not (isinstance(value, ast.Constant) and value.value is True):
        yield Verdict("unsafe-argument", ast.unparse(node))
