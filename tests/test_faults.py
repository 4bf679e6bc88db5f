"""Real errors of torch, numpy, MONAI and the system, each raised for real where that is possible, and their lines."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss
from monai.networks.nets import SegResNet, UNet
from monai.transforms import Compose, LoadImaged
from torch import nn
from torch.utils.data import DataLoader, default_collate

from pipeline.faults import Fault, advise, describe_first, explain, find_fault, list_causes

VALUES = {"batch_size": 8, "cache_rate": 1.0, "num_workers": 2, "roi_size": [48, 64, 48]}


def catch(run, *arguments, **options):
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        run(*arguments, **options)
    return caught.value


def wrap(error):
    """Wrap an error as MONAI does, once for each part of the config."""
    for text in ("applying transform <a.b.Resized object at 0x1>", "Failed to instantiate component 'CacheDataset'"):
        try:
            raise RuntimeError(text) from error
        except RuntimeError as wrapped:
            error = wrapped
    return error


@pytest.mark.parametrize(
    ("run", "line"),
    [
        (lambda: np.empty(2**60, np.uint8), "memory (RAM) is full, 1.00 EiB more were needed"),
        (lambda: torch.empty(2**50), "memory (RAM) is full, 4503.6 TB more were needed"),
        (lambda: bytes(2**62), "memory (RAM) is full"),
    ],
)
def test_no_memory(run, line):
    error = catch(run)
    knobs = "--batch_size (now 8), --roi_size (now [48, 64, 48]), --cache_rate (now 1.0) or --num_workers (now 2)"
    full = f"{line}; lower {knobs}"
    assert explain(error, VALUES) == full
    assert explain(wrap(error), VALUES) == full


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.15 GiB of which 9.12 MiB is "
        "free. Including non-PyTorch memory, this process has 2 GiB memory in use.",
        "HIP out of memory. Tried to allocate 20.00 MiB (GPU 0; 8 GiB total capacity)",
    ],
)
def test_no_memory_of_the_gpu(text):
    for error in (torch.cuda.OutOfMemoryError(text), RuntimeError(text)):
        line = explain(error, VALUES)
        assert line == (
            "memory of the GPU is full, 20.00 MiB more were needed; "
            "lower --batch_size (now 8) or --roi_size (now [48, 64, 48])"
        )
    assert explain(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), {})


def test_what_cannot_be_lower_is_not_asked_for():
    lowest = {"batch_size": 1, "cache_rate": 0.0, "num_workers": 0}
    assert explain(MemoryError(), lowest) == (
        "memory (RAM) is full; no setting saves more: use a machine with more memory, or end other programs"
    )
    assert advise(Fault("full", lower=("batch_size", "num_workers", "cache_rate"))) == (
        "lower batch_size, num_workers or cache_rate"
    )


class Failing(torch.utils.data.Dataset):
    """A dataset whose second item fails in its own way."""

    def __init__(self, fail):
        self.fail = fail

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index == 1:
            self.fail()
        return index


def load(fail, **options):
    return list(DataLoader(Failing(fail), num_workers=1, multiprocessing_context="fork", **options))


def die(number):
    os.kill(os.getpid(), number)


def read_missing():
    try:
        Path("/nowhere/mask.png").read_bytes()
    except OSError as error:
        raise RuntimeError("applying transform <monai.transforms.io.dictionary.LoadImaged object at 0x7f>") from error


def stumble():
    try:
        {}["handled"]
    except KeyError:
        np.empty(2**60, np.uint8)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("fail", "line"),
    [
        (
            lambda: os.kill(os.getpid(), signal.SIGKILL),
            r"worker \d+ of the loader was killed \(SIGKILL\), as the system",
        ),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), r"worker \d+ of the loader crashed \(Segmentation fault\)"),
        (lambda: os.kill(os.getpid(), signal.SIGBUS), r"shared memory of the loader's workers is full \(/dev/shm\)"),
        (lambda: os._exit(3), r"worker \d+ of the loader ended without saying why"),
        (read_missing, r"cannot read /nowhere/mask\.png: no such file or directory$"),
        (stumble, r"memory \(RAM\) is full, 1\.00 EiB more were needed"),
    ],
    ids=["killed", "crashed", "bus", "exit", "read", "memory"],
)
def test_a_worker_of_the_loader(fail, line):
    error = catch(load, fail)
    found = find_fault(error)
    assert found is not None, str(error)
    assert re.match(line, found.what), found.what
    assert explain(error, VALUES).count("\n") == 0


def test_the_causes_of_a_worker_are_those_of_the_worker():
    causes = list_causes(catch(load, read_missing))
    assert [cause.kind for cause in causes] == ["FileNotFoundError", "RuntimeError"]
    assert causes[0].text == "[Errno 2] No such file or directory: '/nowhere/mask.png'"
    assert [cause.kind for cause in list_causes(catch(load, stumble))] == ["_ArrayMemoryError"]


@pytest.mark.fault
def test_shared_memory_that_is_full():
    text = "unable to write to file </torch_4711_123_0>: No space left on device (28)"
    assert explain(RuntimeError(text)).startswith("shared memory of the loader's workers is full (/dev/shm)")


@pytest.mark.fault
def test_too_many_open_files(tmp_path):
    code = (
        "import resource, sys\n"
        "from pipeline.faults import explain\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
        "files = []\n"
        "try:\n while True:\n  files.append(open(sys.argv[1], 'w'))\n"
        "except OSError as error:\n for file in files: file.close()\n print(explain(error, {'num_workers': 2}))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == (
        "too many open files, 40 are allowed; lower --num_workers (now 2), "
        "or allow more in the shell with `ulimit -n 8192`\n"
    )


@pytest.mark.parametrize(
    ("network", "size", "line"),
    [
        (lambda: UNet(3, 1, 2, (4, 8, 16), (2, 2)), (1, 1, 30, 30, 30), "sizes inside the network differ"),
        (lambda: SegResNet(init_filters=8), (1, 1, 30, 30, 30), "sizes inside the network differ"),
        (lambda: UNet(2, 3, 2, (4, 8), (2,)), (1, 1, 32, 32), "the network expects 3 channels, the images have 1"),
        (
            lambda: nn.Sequential(nn.Conv2d(1, 2, 4), nn.BatchNorm2d(2)),
            (1, 1, 4, 4),
            "the network halves the image down to a single value",
        ),
        (lambda: nn.Conv2d(1, 2, 7), (1, 1, 4, 4), "the image is smaller than the network's kernels"),
    ],
)
def test_sizes_that_do_not_fit_the_network(network, size, line):
    error = catch(network(), torch.zeros(size))
    assert explain(error, VALUES).startswith(line)


def test_a_size_that_is_a_multiple_of_32_fits():
    UNet(3, 1, 2, (4, 8, 16), (2, 2))(torch.zeros(1, 1, 32, 32, 32))
    SegResNet(init_filters=8)(torch.zeros(1, 1, 32, 32, 32))


def test_masks_of_another_shape():
    error = catch(DiceLoss(), torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4))
    assert explain(error).startswith(
        "the masks of a batch have the shape [1, 1, 4, 4], the network's output [1, 2, 4, 4]"
    )


def test_images_of_several_sizes():
    error = catch(lambda: list(DataLoader([torch.zeros(1, 4), torch.zeros(1, 6)], batch_size=2)))
    assert explain(error).startswith(
        "the images of a batch differ in size after the transforms: [1, 4] and [1, 6]; pad and crop"
    )


@pytest.mark.parametrize("content", [b"garbage", b"", b"\x1f\x8b\x08\x00garbage"])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.png", "a.tif"])
def test_a_file_that_cannot_be_read(name, content, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    error = catch(Compose([LoadImaged("image")]), {"image": str(tmp_path / name)})
    found = find_fault(error)
    assert found.reading
    assert re.match(rf"an image or mask cannot be read: |cannot read {tmp_path}/{name}: ", found.what), found.what
    assert len(explain(error)) < 400


def test_a_file_that_is_gone(tmp_path: Path):
    error = catch(Compose([LoadImaged("image")]), {"image": str(tmp_path / "a.nii.gz")})
    assert explain(error) == f"cannot read {tmp_path}/a.nii.gz: no such file, or no access"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(30, "Read-only file system", "/out/x"), "/out/x: read-only file system"),
        (PermissionError(13, "Permission denied", b"/out/x"), "/out/x: permission denied"),
        (NotADirectoryError(20, "Not a directory", "/out/it's"), "/out/it's: not a directory"),
        (OSError(28, "No space left on device"), "no space left on device"),
    ],
)
def test_the_system_says_no(error, line):
    assert explain(wrap(error)) == line


@pytest.mark.parametrize(
    "error", [KeyError("image"), ZeroDivisionError(), TypeError("a size of 3"), ValueError("sizes")]
)
def test_what_may_be_a_bug_has_no_line(error):
    assert explain(wrap(error)) is None
    assert describe_first(wrap(error)).startswith(type(error).__name__)


def test_sizes_that_differ_elsewhere_are_not_the_networks():
    assert explain(catch(lambda: torch.zeros(3) + torch.zeros(4))) is None
    assert explain(catch(default_collate, [torch.zeros(3), torch.zeros(4)])) is not None


def test_a_client_without_training_cases():
    error = catch(DataLoader, [], shuffle=True)
    advice = "give it at least one image with its label"
    assert explain(wrap(error)) == f"there are no training cases: the list in train#dataset#data is empty; {advice}"


def test_a_network_that_cannot_be_compiled():
    def make_code(graph, inputs):
        raise RuntimeError("no code for this layer")

    network = nn.Conv2d(1, 1, 3)
    network.forward = torch.compile(network.forward, backend=make_code)
    line = explain(catch(network, torch.ones(1, 1, 8, 8)), VALUES)
    assert line == "torch.compile makes no code that works for this network here; train with --compile false"


def test_an_optimiser_is_not_the_compiler():
    """Its methods pass through torch._dynamo, compiled or not."""
    optimizer = torch.optim.Adam(nn.Linear(1, 1).parameters())
    error = catch(optimizer.load_state_dict, {"state": {}, "param_groups": []})
    assert explain(error, VALUES) is None


def test_a_compiled_network_still_names_sizes_that_do_not_fit():
    network = UNet(2, 1, 1, (4, 8), (2,))
    network.forward = torch.compile(network.forward, backend="eager")
    line = explain(catch(network, torch.ones(1, 3, 8, 8)), VALUES)
    assert line.startswith("the network expects 1 channels, the images have 3")
