"""Seeded mutations of configs and archives for the audit: ``python -m tests.security.audit_fuzz COUNT [SEED]``.

It runs without torch and MONAI, so that the memory that it reports is the audit's own.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import resource
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from pipeline.bundle.audit import AuditResult, Finding, audit_bundle
from pipeline.issues import InputError
from tests.bundle.audit.bundles import CONFIG, METADATA, encode, make_files, write_zip

MOST_SECONDS, MOST_MEGABYTES = 10.0, 1000
WORDS = (
    *("$", "@", "%", "#", "::", "+", "~", "_target_", "_mode_", "_requires_", "_disabled_", "debug"),
    *("lambda x: x", "torch", "torch.nn", "os.system", "monai.utils", "@network", "@###a"),
    *("%configs/train.json#x", "9**9", "[", "]", "{", "}", "(" * 50, "-" * 900, "\\", "'", '"'),
    *("\x00", "\ud800", "\u202e", "é", "__class__", "import os", "from a import b", "{0:{1}}"),
    *("f'{x!r:>{10}}'", "x[1:2:3]", "*a", "**b", "x := 1", "not ", " if 1 else ", "yield", "await x"),
    *("1e999", "!!python/object:x.y", "&a", "*a", "- ", ": ", "<<: *a", "? ", "|\n", "\t", "---\n"),
    *("%YAML 1.1", "\x85", "0x1F", "1_000"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**30, 1e308, "", [], {}, [[]], {"": ""}, ["$", "@", "%"], "x" * 5000, ["a"] * 500),
    *({"_target_": None}, {"_target_": []}),
    *({"_target_": "UNet", "_mode_": []}, {"_target_": "LoadImage", "reader": {"a": 1}}),
    *("$" + "@a" * 300, "$" + "a." * 500 + "b", "@" + "a::" * 300, "%" + "../" * 200 + "x.json"),
    "$import " + "a." * 300 + "b",
)


class MemoryFiles:
    """A bundle's files in memory.

    Args:
        files: content by path.
    """

    name = "fuzzed"

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.sizes = {path: len(content) for path, content in files.items()}
        self.problems: list[Finding] = []

    def open(self, path: str) -> IO[bytes]:
        return io.BytesIO(self.files[path])


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0 and place < len(data):
            data[place] = rng.randrange(256)
        elif kind == 1:
            data[place:place] = rng.choice(WORDS).encode("utf-8", "surrogatepass")
        elif kind == 2:
            del data[place : place + rng.randint(1, 40)]
        elif kind == 3:
            data[place:place] = data[: rng.randint(0, 200)]
        elif place < len(data):
            struct.pack_into("<B", data, place, rng.choice((0, 255, 127, 128)))
    return bytes(data)


def mutate_value(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        if rng.random() < 0.2:
            return {**value, rng.choice(WORDS) + key: rng.choice(VALUES)}
        return {**value, key: mutate_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [*value[:place], mutate_value(value[place], rng), *value[place + 1 :]]
    if isinstance(value, str) and rng.random() < 0.7:
        place = rng.randrange(len(value) + 1)
        return value[:place] + "".join(rng.choices(WORDS, k=rng.randint(1, 6))) + value[place:]
    return rng.choice(VALUES)


RICH: dict[str, Any] = {
    **CONFIG,
    "imports": ["$import torch", "$import os", "$from glob import glob"],
    "images": "$sorted(glob(os.path.join(@bundle_root, '*.nii.gz')))",
    "pairs": "$[{'image': i} for i in @images[: int(len(@images) * 0.8)]]",
    "train": {
        "steps": [
            {"_target_": "LoadImaged", "keys": "image", "reader": "ITKReader"},
            {"_target_": "Lambdad", "func": "$lambda x: x"},
        ],
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [96, 96, 96], "overlap": 0.5},
        "again": "%train#inferer",
        "near": "@#inferer",
        "pick": {
            "_target_": "operator.lt",
            "_mode_": "callable",
            "_requires_": "@device",
            "_disabled_": "$not @images",
        },
    },
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
}
TENSORS = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()


def make_bundle() -> dict[str, bytes]:
    stream = io.BytesIO()
    pickle.dump({"state": [1.5, "x", {2: (3,)}]}, stream, protocol=2)
    weights = Path(tempfile.gettempdir()) / "fuzz-weights.zip"
    content = write_zip({"archive/data.pkl": stream.getvalue(), "archive/version": b"3"}, weights).read_bytes()
    weights.unlink()
    return {
        **make_files(),
        "configs/train.json": encode(RICH),
        "configs/inference.yaml": b"imports: [$import torch]\nx: &a {y: 1}\nnet:\n  _target_: UNet\n  a: *a\n",
        "large_files.yml": b"large_files:\n- {path: m.pt, url: 'https://x.y/m.pt', hash_val: ab, hash_type: md5}\n",
        "models/model.pt": content,
        "models/model.safetensors": struct.pack("<Q", len(TENSORS)) + TENSORS + bytes(8),
        "docs/array.npy": b"\x93NUMPY\x01\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}",
        "SHA256SUMS": b"0" * 64 + b"  LICENSE\n",
        "scripts/x.py": b"import os\nos.system('x')\n",
    }


def fuzz_text(files: dict[str, bytes], rng: random.Random, folder: Path) -> AuditResult:
    path = rng.choice(list(files))
    return audit_bundle(MemoryFiles({**files, path: mutate_bytes(files[path], rng)}), allow_code=rng.random() < 0.3)


def fuzz_config(files: dict[str, bytes], rng: random.Random, folder: Path) -> AuditResult:
    path, data = rng.choice((("configs/train.json", RICH), ("configs/metadata.json", METADATA)))
    for _ in range(rng.randint(1, 5)):
        data = mutate_value(data, rng)
    return audit_bundle(MemoryFiles({**files, path: encode(data)}), overrides={"x#y": rng.choice(VALUES)})


def fuzz_archive(files: dict[str, bytes], rng: random.Random, folder: Path) -> AuditResult:
    archive = write_zip(files, folder / "x.zip")
    archive.write_bytes(mutate_bytes(archive.read_bytes(), rng))
    return audit_bundle(archive)


KINDS: tuple[Callable[[dict[str, bytes], random.Random, Path], AuditResult], ...] = (
    fuzz_text,
    fuzz_config,
    fuzz_archive,
)


def run(count: int, seed: int = 0) -> dict[str, Any]:
    """Audit mutated bundles.

    Returns:
        How many, how often each code was found, the longest time in seconds and the largest memory in megabytes.
    """
    files, longest, codes = make_bundle(), 0.0, dict[str, int]()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            rng = random.Random(seed * 1_000_000 + number)
            start = time.process_time()
            try:
                result = rng.choice(KINDS)(files, rng, Path(folder))
                json.dumps(result.to_dict())
                assert all(finding.one_line().isprintable() for finding in result.findings), result.findings
            except InputError:
                result = AuditResult("refused")
            except BaseException as error:
                raise AssertionError(f"mutation {number} of seed {seed}: {error!r}") from error
            longest = max(longest, time.process_time() - start)
            for code in {finding.code for finding in result.findings}:
                codes[code] = codes.get(code, 0) + 1
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {"count": count, "longest": round(longest, 2), "megabytes": round(memory), "codes": codes}


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]), *map(int, sys.argv[2:]))))
