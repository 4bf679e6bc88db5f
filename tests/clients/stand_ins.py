"""Stand-ins for packages that a client imports and that none of the tested steps uses.

==================  ==============  ====================================================================================
package             client          why it is not installed
==================  ==============  ====================================================================================
``holoscan``        Deploy SDK      needs the libraries of an NVIDIA GPU; runs graphs of operators, here one is called
``highdicom``       Deploy SDK      writes DICOM SEG; not among the SDK's own requirements
``tritonclient``    Deploy SDK      for models on a Triton server; pins an older ``greenlet`` and ``protobuf``
``torchvision``     MONAI Label     draws images for TensorBoard; its build must be the one of ``torch``'s
``pydicom_seg``     MONAI Label     writes DICOM SEG; excludes NumPy 2; with it comes ``SimpleITK``
``numpymaxflow``    MONAI Label     cuts graphs for scribbles; excludes NumPy 2
==================  ==============  ====================================================================================
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

LABEL = ("torchvision.utils", "pydicom_seg", "SimpleITK", "numpymaxflow")
DEPLOY = (
    *("highdicom", "tritonclient.http", "tritonclient.grpc.model_config_pb2"),
    *(f"holoscan.{name}" for name in ("conditions", "core", "executors", "graphs", "logger", "operators", "resources")),
)


class _Anything(type):
    def __getattr__(cls, name: str) -> Any:
        return _make_stand_in(name)


class StandIn(metaclass=_Anything):
    """A class of an absent package: it can be derived from and created, and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs


class _Module(types.ModuleType):
    __path__: ClassVar[list[str]] = []
    __file__ = __file__
    __version__ = "0"

    def __getattr__(self, name: str) -> Any:
        return _make_stand_in(name)


def _make_stand_in(name: str) -> type[StandIn]:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Anything(name, (StandIn,), {})


@contextmanager
def stand_in(names: Iterable[str]) -> Iterator[None]:
    """Let imports find modules with classes of any name; afterwards nobody else finds them."""
    parts = [name.split(".") for name in names]
    paths = dict.fromkeys(".".join(words[:count]) for words in parts for count in range(1, len(words) + 1))
    added = {path: _Module(path) for path in paths if path not in sys.modules}
    sys.modules.update(added)
    try:
        yield
    finally:
        for path in added:
            del sys.modules[path]


def write_stand_ins(names: Iterable[str], folder: Path) -> None:
    """Write the modules into a folder, for programs of their own."""
    code = "def __getattr__(name):\n    if name[:2] == '__':\n        raise AttributeError(name)\n    return object\n"
    for name in names:
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            module = folder.joinpath(*parts[:count])
            module.mkdir(parents=True, exist_ok=True)
            (module / "__init__.py").write_text(code, encoding="utf-8")


def import_label() -> types.SimpleNamespace:
    """Import MONAI Label's tasks and datastore."""
    import monai  # noqa: F401  # before the stand-ins, so that MONAI does not find them

    with stand_in(LABEL):
        from monailabel.datastore.local import LocalDatastore
        from monailabel.tasks.infer.bundle import BundleInferTask
        from monailabel.tasks.train.bundle import BundleTrainTask
    return types.SimpleNamespace(
        LocalDatastore=LocalDatastore, BundleInferTask=BundleInferTask, BundleTrainTask=BundleTrainTask
    )


def import_deploy() -> types.SimpleNamespace:
    """Import the Deploy SDK's bundle operator, which is installed in a folder of its own."""
    import monai

    folder = str(Path(sys.prefix) / "deploy/monai")
    if folder not in monai.__path__:
        monai.__path__.append(folder)
    with stand_in(DEPLOY):
        from monai.deploy.core import AppContext, Image, IOType
        from monai.deploy.operators.monai_bundle_inference_operator import IOMapping, MonaiBundleInferenceOperator
    return types.SimpleNamespace(
        AppContext=AppContext, Image=Image, IOType=IOType, IOMapping=IOMapping, Operator=MonaiBundleInferenceOperator
    )
