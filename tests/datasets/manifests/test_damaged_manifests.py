"""Thousands of damaged manifests: findings or one line, never a traceback, never a file outside the folder."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.datasets import Manifest
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.manifests.manifest_file import dump_manifest
from pipeline.datasets.manifests.schema import parse_manifest

STRANGE: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        7,
        1e308,
        -0.5,
        10**30,
        "",
        " ",
        "x",
        "é" * 300,
        "\0",
        "\ud800",
        "a\nb",
        "..",
        "/",
        "\\",
    ),
    *("/etc/passwd", "../x", "C:\\x", "x" * 5000, "9" * 5000, [], {}, [[]], [None], {"": 0}, {"9" * 5000: 1}),
    *({"path": None}, {"path": "a.tif", "sha256": "0"}, ["a.json#"], "a.json#9", "\u202ex.tif", "no", "007"),
)
KEYS = ("path", "sha256", "cases", "image", "label", "fold", "split", "subject", "facts", "shape", "coco", "binarize")
KEYS += ("color_map", "ignore_index", "intensity_range", "mask_type", "stacking", "named_splits", "voxels", "spacing")


def walk(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of every value."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        yield node, key
        yield from walk(value)


def damage(data: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return a copy with up to three changes of structure."""
    data = copy.deepcopy(data)
    for _ in range(rng.randint(1, 3)):
        container, key = rng.choice(list(walk(data)))
        change = rng.randrange(4)
        if change == 0 and isinstance(container, dict):
            container[rng.choice(KEYS)] = rng.choice(STRANGE)
        elif change == 1:
            del container[key]
        elif change == 2:
            container[key] = copy.deepcopy(rng.choice(list(walk(data)))[0])
        else:
            container[key] = copy.deepcopy(rng.choice(STRANGE))
    return data


def damage_bytes(content: bytes, rng: random.Random) -> bytes:
    """Return a copy with some bytes changed, cut or repeated."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data))
        change = rng.randrange(3)
        if change == 0:
            data[place] = rng.randrange(256)
        elif change == 1:
            del data[place : place + rng.randint(1, 40)]
        else:
            data[place:place] = data[place : place + rng.randint(1, 40)]
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_manifests_give_findings_and_nothing_else(kaggle: Path, manifest: Manifest, seed: int) -> None:
    rng = random.Random(seed)
    text = dump_manifest(manifest)
    data = json.loads(text)
    data |= {"color_map": {"#000000": 0}, "ignore_index": 9, "intensity_range": [0, 255], "coco": None}
    read = 0
    for _ in range(300):
        content = json.dumps(damage(data, rng)).encode() if rng.random() < 0.7 else damage_bytes(text.encode(), rng)
        parsed, issues = parse_manifest(content, kaggle)
        assert parsed is not None or any(issue.severity == "error" for issue in issues)
        assert all("\n" not in issue.one_line() and issue.one_line().encode() for issue in issues)
        if parsed is None:
            continue
        read += 1
        assert all(".." not in path and not path.startswith("/") for case in parsed.cases for path in case.files())
        report = check_manifest(parsed, kaggle, level=rng.choice(("quick", "default", "deep")), jobs=1)
        assert all("\n" not in issue.one_line() for issue in report.issues)
        # What can be read can be written again.
        assert parse_manifest(dump_manifest(parsed).encode(), kaggle)[0] is not None
    assert read > 20
