"""Leaks that only pixels reveal: the same picture in another encoding, and near copies.

Every image file of a case is compared; a volume in one file is compared by the mean of its middle slices. Two cases of
several slices or frames are near copies if at least two slices, and a tenth of the smaller case's slices, match one to
one: in a copied patient nearly all do, while single slices near the top of two heads resemble each other. Images of
one subject and blank images are never compared.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.datasets.checks.case_view import CaseView
from pipeline.datasets.checks.leaks.manifest_leaks import (
    Leak,
    Occurrence,
    is_bare_header,
    make_leak,
    name_part,
    report_copies,
)
from pipeline.datasets.checks.options import CheckOptions
from pipeline.datasets.digests import map_threads
from pipeline.datasets.files import locate_file
from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.datasets.probes import ImageError, Probe, probe_image
from pipeline.issues import Issue, show_controls

if TYPE_CHECKING:
    from pipeline.datasets.checks.leaks.near import NearPairs
    from pipeline.datasets.probes.fingerprints import Fingerprint

_LOGGER = logging.getLogger(__name__)
_MIN_SLICES = 2
_MIN_SHARE = 0.1
# A finding is about the case in the later split, which gives the scores.
_RANK = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True)
class KnownImage:
    """An image that can be compared."""

    case: int  #: index of its case
    path: str  #: its file
    fingerprint: Fingerprint  #: its features
    digest: str  #: digest of its pixels


@dataclass(frozen=True)
class NearCases:
    """Two cases that are near copies, with their most similar pair of images."""

    first: KnownImage  #: the image of the case that comes first
    second: KnownImage  #: the image of the other case
    distance: int  #: number of different bits of their hashes
    correlation: float  #: correlation of their details
    symmetry: int  #: flip or turn of one of them, as an index of `pipeline.datasets.probes.fingerprints.SYMMETRIES`
    images: int = 1  #: number of images that match one to one

    def is_closer(self, other: NearCases) -> bool:
        """Return whether these images are more similar than those of the other."""
        return (self.correlation, -self.distance) > (other.correlation, -other.distance)


@dataclass
class _Nearest:
    """The nearest copy of a case so far, and the number of its copies."""

    best: NearCases
    partner: int
    number: int = 1


@dataclass
class _Stack:
    """The matching images of two cases of which at least one has several images."""

    best: NearCases
    first: set[int] = field(default_factory=set)
    second: set[int] = field(default_factory=set)


def find_leaking_pixels(views: Sequence[CaseView]) -> Iterator[Issue]:
    """Yield ``leak-pixels`` for images with the same pixels as an image in another split or fold.

    Files with the same bytes are left to ``leak-file``; images with a single value, such as black slices, are ignored.
    """
    by_digest: dict[str, list[Occurrence]] = defaultdict(list)
    for view in views:
        for path, probe in view.images():
            content = probe.content
            if content is not None and content.digest and content.high > content.low:
                by_digest[content.digest].append(Occurrence(view.case, path, content.digest))
    copies = [own for group in by_digest.values() if not _same_bytes(group) for own in group]
    yield from report_copies("leak-pixels", "pixels", copies)


def _same_bytes(group: Sequence[Occurrence]) -> bool:
    digests = {None if is_bare_header(own.path) else own.case.sha256.get(own.path) for own in group}
    return len(digests) == 1 and None not in digests


def find_near_copies(views: Sequence[CaseView]) -> Iterator[Issue]:
    """Yield ``leak-near`` for cases with a near copy in another split or fold, ``near-duplicates`` with a count.

    A case is reported once, with its nearest copy; of the two, the case in test, or else in validation, is reported.
    Copies within a split do not bias scores and are only counted.
    """
    if not views or not views[0].options.search_near:
        return
    images = list_images(views)
    cases = [view.case for view in views]
    nearest: dict[int, _Nearest] = {}
    within: dict[str, set[int]] = defaultdict(set)
    for pair in match_cases(images, cases, views[0].options.near_distance):
        first, second = pair.first.case, pair.second.case
        if name_part(cases[first]) == name_part(cases[second]):
            within[cases[first].split] |= {first, second}
        elif pair.first.digest != pair.second.digest:
            _note_pair(nearest, cases, pair)
    for index in sorted(nearest):
        yield _leak_near(nearest[index], index, cases)
    if within:
        counts = ", ".join(f"{len(within[split])} in {split}" for split in _RANK if split in within)
        message = f"cases with a near copy in their own split: {counts}"
        yield Issue("near-duplicates", "warning", message, hint="they count twice in training and in scores")


def _note_pair(nearest: dict[int, _Nearest], cases: Sequence[Case], pair: NearCases) -> None:
    first, second = pair.first.case, pair.second.case
    own, partner = sorted((first, second), key=lambda i: (-_RANK[cases[i].split], -i))
    known = nearest.get(own)
    if known is None:
        nearest[own] = _Nearest(pair, partner)
        return
    known.number += 1
    if pair.is_closer(known.best):
        known.best, known.partner = pair, partner


def _leak_near(nearest: _Nearest, index: int, cases: Sequence[Case]) -> Leak:
    from pipeline.datasets.probes.fingerprints import HASH_BITS, SYMMETRIES

    pair = nearest.best
    own, other = (pair.first, pair.second) if pair.first.case == index else (pair.second, pair.first)
    facts = [f"{pair.distance} of {HASH_BITS} hash bits differ", f"correlation {pair.correlation:.3f}"]
    facts += [SYMMETRIES[pair.symmetry]] if pair.symmetry else []
    facts += [f"{pair.images} images of the two cases match"] if pair.images > 1 else []
    parts = f"one is in {name_part(cases[other.case])}, the other in {name_part(cases[index])}"
    others = nearest.number - 1
    more = f"; {others} more near {'copy' if others == 1 else 'copies'} in other parts" if others else ""
    message = f"a near copy of {other.path} ({', '.join(facts)}): {parts}{more}"
    sides = (Occurrence(cases[index], own.path), Occurrence(cases[other.case], other.path))
    hint = "compare both (--html draws them), then remove one or keep them in one split"
    return make_leak("leak-near", "warning", message, sides, hint)


def list_images(views: Sequence[CaseView]) -> list[KnownImage]:
    """Return the decoded images that can be compared, in the manifest's order."""
    return [
        KnownImage(index, path, content.fingerprint, content.digest)
        for index, view in enumerate(views)
        for path, probe in view.images()
        if (content := probe.content) is not None
        and content.fingerprint is not None
        and content.fingerprint.informative
    ]


def count_blank_images(views: Iterable[CaseView]) -> int:
    """Return the number of decoded images that are too blank to be compared."""
    contents = (probe.content for view in views for _, probe in view.images())
    prints = (content.fingerprint for content in contents if content is not None)
    return sum(fingerprint is not None and not fingerprint.informative for fingerprint in prints)


def match_cases(images: Sequence[KnownImage], cases: Sequence[Case], distance: int) -> Iterator[NearCases]:
    """Yield each pair of cases of different subjects that are near copies, always in the same order."""
    if len(images) < 2:
        return
    import numpy as np

    from pipeline.datasets.checks.leaks.near import find_near_pairs
    from pipeline.datasets.probes.fingerprints import read_thumbnails

    names = [case.subject_key() for case in cases]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    groups = np.array([numbers[names[image.case]] for image in images], dtype=np.int64)
    thumbnails = read_thumbnails([image.fingerprint for image in images])
    stacks: dict[tuple[int, int], _Stack] = {}
    for pairs in find_near_pairs(thumbnails, groups, distance=distance):
        for first, second, pair in _list_pairs(pairs, images):
            if len(cases[pair.first.case].image) == len(cases[pair.second.case].image) == 1:
                yield pair
            else:
                _note_slices(stacks, first, second, pair)
    for stack in stacks.values():
        matching = min(len(stack.first), len(stack.second))
        best = stack.best
        if matching >= _count_needed(cases[best.first.case], cases[best.second.case]):
            yield NearCases(best.first, best.second, best.distance, best.correlation, best.symmetry, matching)


def _list_pairs(pairs: NearPairs, images: Sequence[KnownImage]) -> Iterator[tuple[int, int, NearCases]]:
    columns = (pairs.first, pairs.second, pairs.distance, pairs.correlation, pairs.symmetry)
    for first, second, bits, correlation, symmetry in zip(*(column.tolist() for column in columns), strict=True):
        yield first, second, NearCases(images[first], images[second], bits, correlation, symmetry)


def _note_slices(stacks: dict[tuple[int, int], _Stack], first: int, second: int, pair: NearCases) -> None:
    stack = stacks.setdefault((pair.first.case, pair.second.case), _Stack(pair))
    stack.first.add(first)
    stack.second.add(second)
    if pair.is_closer(stack.best):
        stack.best = pair


def _count_needed(first: Case, second: Case) -> int:
    fewest = min(len(first.image), len(second.image))
    return 1 if fewest == 1 else max(_MIN_SLICES, ceil(_MIN_SHARE * fewest))


def group_near_duplicates(manifest: Manifest, root: Path, jobs: int | None = None) -> list[frozenset[str]]:
    """Return groups of cases that are near copies of each other, so that a split can keep them together.

    Args:
        manifest: the dataset.
        root: its folder; all images are decoded. Absent and damaged ones are left out, and a warning counts them.
        jobs: number of threads; None takes one per core.

    Returns:
        Ids of the cases of each group of two or more, in the manifest's order. A near copy of a near copy is in the
        same group. Cases of one subject are not compared, because every split keeps them together.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    options = CheckOptions()

    def read(case: Case) -> CaseView:
        return CaseView(manifest, case, dict(_read_images(case, root)), options)

    cases = manifest.cases
    views = list(map_threads(read, cases, jobs))
    lost = [path for view in views for path in view.case.image if path not in view.probes]
    if lost:
        total = sum(len(case.image) for case in cases)
        message = "%d of %d images cannot be read and were not compared, for example %s"
        _LOGGER.warning(message, len(lost), total, show_controls(lost[0]))
    pairs = [
        (pair.first.case, pair.second.case) for pair in match_cases(list_images(views), cases, options.near_distance)
    ]
    if not pairs:
        return []
    graph = coo_array(([True] * len(pairs), tuple(zip(*pairs, strict=True))), shape=(len(cases), len(cases)))
    groups: dict[int, list[str]] = defaultdict(list)
    for case, group in zip(cases, connected_components(graph, directed=False)[1].tolist(), strict=True):
        groups[group].append(case.case_id)
    return [frozenset(group) for group in groups.values() if len(group) > 1]


def _read_images(case: Case, root: Path) -> Iterator[tuple[str, Probe]]:
    for path in case.image:
        try:
            yield path, probe_image(locate_file(root, path), decode=True, is_mask=False)
        except (ImageError, OSError, MemoryError):
            # `dataset check` reports its damage.
            continue
