"""Random damage to annotation files, seeded: of their structure, their numbers, their text and their bytes."""

import copy
import json
import random
from typing import Any

HEIGHT, WIDTH = 24, 30
ODD_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        "",
        "7",
        "\x00",
        "\ud800",
        "../../x",
        "C:\\x.png",
        "a#b",
        [],
        {},
        [[]],
        [[[]]],
        [None],
        {"": []},
    ),
    *(0, -1, 1, 2, 3, 7, 2**31, 2**32, 2**63, -(2**63), 2**64, 10**30, 10**400, -(10**400)),
    *(0.0, -0.0, 0.5, 1e-320, 1e9, -1e9, 1e308, 7.0, float("nan"), float("inf"), float("-inf")),
    *([0] * 7, [1.5, 2], ["a"] * 6, [1, 2, 3, 4, 5, float("nan")], [[1, 1, 1, 1, 1, 1]], [[0, 0, 1e9, 0, 1e9, 1e9]]),
    *({"size": [HEIGHT, WIDTH], "counts": [5]}, {"size": [HEIGHT, WIDTH], "counts": [2**40, -(2**40), 720]}),
    *({"size": [HEIGHT, WIDTH], "counts": "o" * 40}, {"size": [HEIGHT, WIDTH], "counts": "0000`f0"}),
    *({"size": [2**20, 2**20], "counts": [2**40]}, {"counts": 5}, {"size": 5}),
)


def make_valid() -> dict[str, Any]:
    """Return a file with polygons, both kinds of run lengths, a crowd and an image without annotations."""
    images = [{"id": k, "file_name": f"{k}.png", "height": HEIGHT, "width": WIDTH} for k in range(1, 4)]
    runs = [200, 10, 14, 10, HEIGHT * WIDTH - 234]
    shapes = (
        [[2, 2, 20, 2, 20, 12.5, 2, 12.5]],
        [[5.25, 5, 12, 5, 9, 11], [20, 15, 28, 15, 24, 23]],
        {"size": [HEIGHT, WIDTH], "counts": runs},
        {"size": [HEIGHT, WIDTH], "counts": "\\25c000M^O0b00^O0b00^O0b00^O0b0300000000l;"},
    )
    rows = [
        {"id": k, "image_id": 1 + k % 2, "category_id": 1 + k % 2, "segmentation": shape, "iscrowd": int(k == 2)}
        for k, shape in enumerate(shapes)
    ]
    categories = [{"id": 1, "name": "a", "supercategory": "x"}, {"id": 2, "name": "b"}]
    return {"info": {}, "licenses": [], "images": images, "annotations": rows, "categories": categories}


def mutate(rng: random.Random) -> bytes:
    """Return a valid file after one to four changes of its structure, or of its bytes, or both."""
    data = copy.deepcopy(make_valid())
    if rng.random() < 0.8:
        for _ in range(rng.randint(1, 4)):
            _change_structure(data, rng)
    content = bytearray(json.dumps(data).encode("utf-8", "surrogatepass"))
    if rng.random() < 0.3:
        for _ in range(rng.randint(1, 3)):
            _change_bytes(content, rng)
    return bytes(content)


def _change_structure(data: Any, rng: random.Random) -> None:
    # Most of what can go wrong lies in the outlines.
    place: Any = data
    if rng.random() < 0.5 and data.get("annotations") and isinstance(data["annotations"], list):
        place = rng.choice(data["annotations"])
        place = place.get("segmentation") if isinstance(place, dict) else None
        place = place if isinstance(place, dict | list) else data
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(place[key], dict | list) and rng.random() < 0.85:
            place = place[key]
            continue
        break
    action = rng.randrange(6)
    if action <= 2:
        place[key] = copy.deepcopy(rng.choice(ODD_VALUES))
    elif action == 3:
        del place[key]
    elif action == 4 and isinstance(place, list):
        place.insert(rng.randrange(len(place) + 1), copy.deepcopy(rng.choice([place[key], rng.choice(ODD_VALUES)])))
    elif type(place[key]) in (int, float) and abs(place[key]) < 2**64:
        place[key] = place[key] * rng.choice((-1, 10, 1000, 1e6, 1e15, 1e-9)) + rng.choice((0, 1, -1, 0.5))
    else:
        place[key] = [place[key]]


def _change_bytes(content: bytearray, rng: random.Random) -> None:
    if not content:
        return
    at, end = rng.randrange(len(content)), rng.randrange(len(content))
    action = rng.randrange(6)
    if action == 0:
        content[at] ^= 1 << rng.randrange(8)
    elif action == 1:
        del content[at:]
    elif action == 2:
        content[at:at] = content[min(at, end) : min(at, end) + rng.randrange(60)]
    elif action == 3:
        content[at:at] = rng.choice(
            (b"NaN", b"-Infinity", b"1e999", b"[" * 3000, b'{"a":' * 2000, b"9" * 5000, b"\xff")
        )
    elif action == 4:
        del content[at : at + rng.randrange(1, 30)]
    else:
        content[at] = rng.choice(b'0123456789-eE.,:[]{}"\\ ntf')
