"""Look into files of ``torch.save`` by the operations of their pickles, without running one."""

import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

from pipeline.bundle.audit.finding import Finding, make_finding, shorten
from pipeline.bundle.audit.word_list import read_words

_MOST_PICKLE = 50_000_000
_MOST_OPERATIONS = 5_000_000
_MOST_FINDINGS = 20
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)
_TYPES = "Double Float Half BFloat16 Long Int Short Char Byte Bool ComplexDouble ComplexFloat"
#: What torch's reader for `weights_only` allows (``torch._weights_only_unpickler``); a test compares.
ALLOWED = read_words(f"""
    collections.OrderedDict collections.Counter torch.nn.parameter.Parameter torch.serialization._get_layout torch.Size
    torch.Tensor torch.device _codecs.encode builtins.bytearray builtins.set builtins.complex
    torch.float64 torch.float32 torch.float16 torch.bfloat16 torch.int64 torch.int32 torch.int16 torch.int8 torch.uint8
    torch.bool torch.complex128 torch.complex64 torch.uint16 torch.uint32 torch.uint64
    torch.storage.UntypedStorage torch.storage.TypedStorage
    {" ".join(f"torch.{name}Storage torch.cuda.{name}Storage" for name in _TYPES.split())}
    {" ".join(f"torch.{name}Tensor" for name in _TYPES.split()[:-2])}
    torch._utils._rebuild_parameter torch._utils._rebuild_parameter_with_state torch._utils._rebuild_tensor
    torch._utils._rebuild_tensor_v2 torch._utils._rebuild_tensor_v3 torch._utils._rebuild_sparse_tensor
    torch._utils._rebuild_device_tensor_from_numpy torch._utils._rebuild_device_tensor_from_cpu_tensor
    torch._tensor._rebuild_from_type_v2
    """)
#: The operations that torch's reader for `weights_only` knows.
OPERATIONS = read_words("""
    GLOBAL NEWOBJ REDUCE BUILD APPEND APPENDS SETITEM SETITEMS MARK TUPLE TUPLE1 TUPLE2 TUPLE3 NONE NEWFALSE NEWTRUE
    EMPTY_TUPLE EMPTY_LIST EMPTY_DICT EMPTY_SET BINPERSID BININT BININT1 BININT2 BINFLOAT BINGET LONG_BINGET BINPUT
    LONG_BINPUT BINUNICODE SHORT_BINSTRING LONG1 PROTO STOP
    """)
_PICKLE_START = re.compile(rb"\x80[\x01-\x05]")
# Members that only TorchScript has.
_SCRIPT = re.compile(r"(^|/)(code/|constants\.pkl$)")


def is_pickle(head: bytes) -> bool:
    """Return whether bytes begin like a pickle of protocol 2 or later, as the old format of ``torch.save`` does.

    Example:
        >>> import pickle
        >>> is_pickle(pickle.dumps([])), is_pickle(b"text")
        (True, False)
    """
    return _PICKLE_START.match(head) is not None


def is_torch_zip(stream: IO[bytes]) -> bool:
    """Return whether a zip file is one of ``torch.save`` or TorchScript."""
    try:
        with zipfile.ZipFile(stream) as opened:
            return any(name.lower().endswith(("data.pkl", "constants.pkl")) for name in opened.namelist())
    except _DAMAGE:
        return False


def check_torch_zip(file: str, stream: IO[bytes]) -> Iterator[Finding]:
    """Yield what is wrong with a file of ``torch.save``.

    Args:
        file: its path within the bundle.
        stream: its bytes.
    """
    try:
        with zipfile.ZipFile(stream) as opened:
            yield from _check_members(file, opened)
    except _DAMAGE as error:
        yield make_finding("weights-damaged", file, "", str(error) or type(error).__name__)


def _check_members(file: str, opened: zipfile.ZipFile) -> Iterator[Finding]:
    # torch looks members up without regard to case.
    names = [info.orig_filename.lower() for info in opened.infolist()]
    if len(set(names)) != len(names) or any(name.startswith("/") or ".." in name.split("/") for name in names):
        yield make_finding("weights-damaged", file, "", "a member occurs twice or leaves the file")
        return
    script = any(_SCRIPT.search(name) for name in names)
    if script:
        yield make_finding("torchscript", file)
    for info in opened.infolist():
        if info.filename.lower().endswith(".pkl"):
            if info.file_size > _MOST_PICKLE:
                yield make_finding("weights-pickle", file, info.filename, f"{info.file_size} bytes of pickle")
                continue
            with opened.open(info) as member:
                content = member.read(_MOST_PICKLE + 1)
            yield from check_pickle(file, info.filename, content, script=script)


def check_pickle(file: str, place: str, content: bytes, *, script: bool = False) -> Iterator[Finding]:
    """Yield what torch's reader for `weights_only` would refuse in a pickle.

    Args:
        file: path within the bundle.
        place: member of the file.
        content: the pickle.
        script: names that TorchScript defines itself are allowed.
    """
    number, found = 0, 0
    try:
        for number, (operation, argument, _) in enumerate(pickletools.genops(content)):
            why = _judge(operation.name, argument, script=script)
            if why:
                found += 1
                yield make_finding("weights-pickle", file, place, why)
            if number >= _MOST_OPERATIONS:
                why = f"more than {_MOST_OPERATIONS} operations; the rest was not judged"
                yield make_finding("weights-pickle", file, place, why)
                return
            if found >= _MOST_FINDINGS:
                return
    except (ValueError, IndexError, OverflowError, UnicodeDecodeError, MemoryError) as error:
        yield make_finding("weights-pickle", file, place, f"after {number} operations: {str(error)[:100]}")


def _judge(operation: str, argument: object, *, script: bool) -> str:
    if operation == "GLOBAL":
        name = re.sub(r"^__builtin__\.", "builtins.", ".".join(str(argument).split(" ", 1)))
        own = script and name.startswith(("__torch__.", "torch.jit._pickle."))
        return "" if name in ALLOWED or own else f"it names {shorten(name)}"
    if operation not in OPERATIONS and not (script and operation.startswith(("BINUNICODE", "SHORT_BINUNICODE"))):
        return f"the operation {operation}, which torch's reader does not know"
    return ""
