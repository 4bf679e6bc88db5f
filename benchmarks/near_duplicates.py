"""Precision and recall of the near-duplicate check on real images, by change, set and threshold.

Positives are made: each image against a changed copy of itself. Negatives are found: different real images of one
set that belong to other patients or films. Sets whose patients are unknown hold true near copies, so their pairs
count neither way: they are listed, and ``--sheets`` draws them to be judged by eye. The threshold is chosen on half
of the subjects and reported on the other half.

Example:
    python benchmarks/near_duplicates.py --data ../shared/data --counts near.json --sheets sheets
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from changed_images import CHANGES, PLANAR_ONLY, UNPROMISED, Array, RealImage, read_sets
from PIL import Image
from records import Row, build_record, write_record

from pipeline.datasets.checks.leaks.copies import KnownImage, match_cases
from pipeline.datasets.checks.leaks.near import MIN_CORRELATION, NearPairs, find_near_pairs
from pipeline.datasets.manifests.manifest import Case
from pipeline.datasets.probes.fingerprints import (
    HASH_BITS,
    SYMMETRIES,
    apply_symmetry,
    compute_details,
    compute_fingerprint,
    compute_hashes,
    read_thumbnails,
)

DISTANCES = range(0, 13, 2)  # two hashes have equally many ones, so distances are even
CORRELATIONS = (0.8, 0.85, 0.9, 0.93, 0.95)


def fingerprint(images: list[Array]) -> tuple[Array, Array]:
    """Return thumbnails (n, 32, 32) and whether each is informative."""
    prints = [compute_fingerprint(image) for image in images]
    return read_thumbnails(prints), np.array([one.informative for one in prints])


def measure_changes(originals: Array, copies: Array) -> tuple[Array, Array]:
    """Return the distance (8, n) and the correlation (8, n) of each copy with its original, by symmetry."""
    distance = (
        HASH_BITS - np.einsum("ib,isb->si", compute_hashes(originals)[:, 0].astype(int), compute_hashes(copies))
    ) / 2
    own, other = compute_details(originals), compute_details(copies)
    return distance, np.stack([(own * apply_symmetry(other, s)).sum((1, 2)) for s in range(len(SYMMETRIES))])


def find_all_pairs(thumbnails: Array, subjects: list[str], **limits: Any) -> NearPairs:
    """Return the near pairs of different subjects; unknown subjects differ."""
    names = [subject or f"?{index}" for index, subject in enumerate(subjects)]
    groups = np.unique(names, return_inverse=True)[1].astype(np.int64)
    parts = list(find_near_pairs(thumbnails, groups, **limits))
    columns = ("first", "second", "distance", "symmetry", "correlation")
    empty = np.zeros(0, np.int64)
    return NearPairs(*(np.concatenate([getattr(part, c) for part in parts]) if parts else empty for c in columns))


def is_tuning(subject: str) -> bool:
    """Return whether a subject is in the half on which thresholds are chosen."""
    return hashlib.sha256(subject.encode()).digest()[0] % 2 == 0


def measure_set(images: list[RealImage]) -> dict[str, Any]:
    """Return hits by half, change, distance and correlation, and the near pairs among the originals."""
    thumbnails, informative = fingerprint([image.pixels for image in images])
    images = [image for image, good in zip(images, informative, strict=True) if good]
    thumbnails = thumbnails[informative]
    tuning = np.array([is_tuning(image.subject or image.name) for image in images])
    planar = images[0].pixels.ndim == 2 or images[0].pixels.shape[-1] <= 4
    recalls: dict[str, Any] = {}
    for name, change in (CHANGES | UNPROMISED).items():
        if planar or name not in PLANAR_ONLY:
            copies, good = fingerprint([change(image.pixels) for image in images])
            distance, correlation = measure_changes(thumbnails, copies)
            recalls[name] = [
                [
                    [
                        int((((distance <= d) & (correlation >= r)).any(axis=0) & good & half).sum())
                        for r in CORRELATIONS
                    ]
                    for d in DISTANCES
                ]
                for half in (tuning, ~tuning)
            ]
    pairs = find_all_pairs(
        thumbnails, [image.subject for image in images], distance=max(DISTANCES), min_correlation=min(CORRELATIONS)
    )
    both = [tuning[pairs.first] & tuning[pairs.second], ~tuning[pairs.first] & ~tuning[pairs.second]]
    false = [
        [
            [int(((pairs.distance <= d) & (pairs.correlation >= r) & half).sum()) for r in CORRELATIONS]
            for d in DISTANCES
        ]
        for half in both
    ]
    return {
        "images": [int(tuning.sum()), int((~tuning).sum())],
        "uninformative": int((~informative).sum()),
        "subjects_known": all(image.subject for image in images),
        "hits": recalls,
        "pairs_of_different_subjects": [_count_pairs(images, tuning == flag) for flag in (True, False)],
        "near_pairs": false,
        "_pairs": pairs,
        "_images": images,
    }


def _count_pairs(images: list[RealImage], chosen: Array) -> int:
    subjects = [image.subject or image.name for image, good in zip(images, chosen, strict=True) if good]
    counts = np.unique(subjects, return_counts=True)[1] if subjects else np.zeros(0, int)
    return int((len(subjects) ** 2 - (counts**2).sum()) // 2)


def choose_distance(results: dict[str, Any], correlation: float) -> tuple[int, list[dict[str, float]]]:
    """Return the distance with the best F1 on the tuning half, the smallest of equals, and the table."""
    column = CORRELATIONS.index(correlation)
    table = [score(results, row, column, half=0) for row in range(len(DISTANCES))]
    best = max(table, key=lambda line: (round(line["f1"], 4), -line["distance"]))
    return int(best["distance"]), table


def score(results: dict[str, Any], row: int, column: int, half: int) -> dict[str, float]:
    """Return recall over all promised changes of all sets, and precision against pairs of known subjects."""
    hits = made = false = 0
    for result in results.values():
        for change, counts in result["hits"].items():
            if change in CHANGES:
                hits += counts[half][row][column]
                made += result["images"][half]
        false += result["near_pairs"][half][row][column] if result["subjects_known"] else 0
    precision, recall = hits / max(hits + false, 1), hits / made
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    line = {"distance": DISTANCES[row], "correlation": CORRELATIONS[column], "recall": recall, "precision": precision}
    return {**line, "f1": f1, "hits": hits, "made": made, "false": false}


def draw_sheet(result: dict[str, Any], path: Path, correlation: float, distance: int, size: int = 128) -> None:
    """Draw the near pairs among the originals, the least correlated first, each turned to match."""
    pairs: NearPairs = result["_pairs"]
    pairs = pairs.select((pairs.correlation >= correlation) & (pairs.distance <= distance))
    pairs = pairs.select(np.argsort(pairs.correlation)[:48])
    if not len(pairs):
        return
    tiles = []
    for first, second, symmetry in zip(pairs.first, pairs.second, pairs.symmetry, strict=True):
        two = [_draw(result["_images"][index].pixels, size) for index in (first, second)]
        tiles.append(np.hstack([two[0], apply_symmetry(two[1], int(symmetry)), np.full((size, 4), 255, np.uint8)]))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 6)
    rows = [np.hstack(tiles[start : start + 6]) for start in range(0, len(tiles), 6)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(rows)).save(path)


def _draw(pixels: Array, size: int) -> Array:
    if pixels.ndim == 3:
        pixels = pixels[:, :, pixels.shape[2] // 2] if pixels.shape[-1] > 4 else pixels.mean(axis=2)
    grey = (pixels - pixels.min()) / max(float(pixels.max() - pixels.min()), 1e-9) * 255
    return np.asarray(Image.fromarray(grey.astype(np.uint8)).resize((size, size)))


def measure_stacks(images: list[RealImage], distance: int) -> dict[str, int]:
    """Return how many patients are found in a copy of their stack (half size, JPEG 50, mirrored), and false pairs."""
    change = CHANGES["half + jpeg 50 + flip"]
    subjects = list(dict.fromkeys(image.subject for image in images))
    stacks = {subject: [image for image in images if image.subject == subject] for subject in subjects}
    copies = [[replace(image, pixels=change(image.pixels)) for image in stacks[subject]] for subject in subjects]
    cases, known = [], []
    for stack in [*stacks.values(), *copies]:
        prints = [compute_fingerprint(image.pixels) for image in stack]
        known += [KnownImage(len(cases), image.name, print_, "") for image, print_ in zip(stack, prints, strict=True)]
        cases.append(Case(str(len(cases)), "", tuple(image.name for image in stack)))
    pairs = list(match_cases([image for image in known if image.fingerprint.informative], cases, distance))
    found = sum(pair.second.case - pair.first.case == len(subjects) for pair in pairs)
    compared = len(cases) * (len(cases) - 1) // 2 - len(subjects)
    return {"patients": len(subjects), "found": found, "false": len(pairs) - found, "pairs_of_patients": compared}


def time_search(count: int = 10_000) -> float:
    """Return seconds of the processor to compare random smooth images with each other, hashes included."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(0).normal(size=(count, 32, 32)).astype(np.float32)
    thumbnails = gaussian_filter(noise, (0, 2, 2))
    start = time.process_time()
    for _ in find_near_pairs(thumbnails, np.arange(count), distance=8):
        pass
    return time.process_time() - start


def print_results(results: dict[str, Any], distance: int, correlation: float) -> None:
    """Print recall by change and set, and near pairs among originals, on the half not used for tuning."""
    row, column = DISTANCES.index(distance), CORRELATIONS.index(correlation)
    print(f"\nrecall at distance <= {distance}, correlation >= {correlation}, half not used for tuning")
    print(f"{'change':24s}" + "".join(f"{name.replace('brain_tumor_', '')[:16]:>18s}" for name in results))
    for change in CHANGES | UNPROMISED:
        cells = []
        for result in results.values():
            hits = result["hits"].get(change)
            cells.append(f"{hits[1][row][column] / result['images'][1]:.3f}" if hits and result["images"][1] else "-")
        print(f"{change + ('' if change in CHANGES else ' *'):24s}" + "".join(f"{cell:>18s}" for cell in cells))
    print("* not promised\n\nnear pairs among the originals, of different or unknown subjects, all images")
    for name, result in results.items():
        pairs: NearPairs = result["_pairs"]
        near = int(((pairs.distance <= distance) & (pairs.correlation >= correlation)).sum())
        known = "different subjects" if result["subjects_known"] else "subjects unknown"
        total = _count_pairs(result["_images"], np.ones(len(result["_images"]), bool))
        print(
            f"{name:28s}{near:6d} of {total:>9,d} pairs ({known}); {result['uninformative']} images left out as blank"
        )


def measure_sets(args: argparse.Namespace) -> None:
    """Measure precision and recall on the real sets, choose the threshold, and print all."""
    results = {}
    sets = read_sets(args.data)
    for name, images in sets.items():
        start = time.perf_counter()
        results[name] = measure_set(images)
        print(f"{name}: {len(images)} images, {time.perf_counter() - start:.1f} s", flush=True)
    distance, table = choose_distance(results, args.correlation)
    print("\ntuning half: distance correlation recall precision f1")
    for line in (
        score(results, row, column, 0) for column in range(len(CORRELATIONS)) for row in range(len(DISTANCES))
    ):
        chosen = " <- chosen" if (line["distance"], line["correlation"]) == (distance, args.correlation) else ""
        cells = (f"{line[key]:.4f}" for key in ("recall", "precision", "f1"))
        print(f"{line['distance']:>4} {line['correlation']:.2f}", *cells, f"false {line['false']}{chosen}")
    final = score(results, DISTANCES.index(distance), CORRELATIONS.index(args.correlation), 1)
    print(f"\nother half: recall {final['recall']:.4f} ({final['hits']} of {final['made']}), precision", end=" ")
    print(f"{final['precision']:.4f} ({final['false']} false)")
    print_results(results, distance, args.correlation)
    stacks = measure_stacks(sets["lgg slices"], distance) if "lgg slices" in sets else {}
    print(f"\nlgg, whole stacks against stacks at half size, jpeg 50, mirrored: {stacks}\n")
    if args.sheets:
        for name, result in results.items():
            draw_sheet(result, args.sheets / f"{name.replace(' ', '_')}.png", args.correlation, distance)
    if args.counts:
        public = {n: {k: v for k, v in r.items() if not k.startswith("_")} for n, r in results.items()}
        head: dict[str, Any] = {"distances": list(DISTANCES), "correlations": list(CORRELATIONS), "chosen": distance}
        head["stacks"] = stacks
        answer = {**head, "tuning": table, "held_out": final, "sets": public}
        args.counts.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, choose, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="folder of real data sets; without it only the speed is measured")
    parser.add_argument("--json", type=Path, help="write the record of the search's speed here")
    parser.add_argument("--counts", type=Path, help="write all counts here")
    parser.add_argument("--sheets", type=Path, help="draw the near pairs among the originals into this folder")
    parser.add_argument("--correlation", type=float, default=MIN_CORRELATION, choices=CORRELATIONS)
    args = parser.parse_args()
    if args.data:
        measure_sets(args)
    seconds = time_search()
    print(f"10,000 images compared with each other: {seconds:.1f} s of the processor")
    row = Row("10,000 images with each other, hashes included", "none known", None, seconds, note="no peer is known")
    write_record(args.json, build_record("near_duplicates", "Search for near copies", "s of processor time", [row]))


if __name__ == "__main__":
    main()
