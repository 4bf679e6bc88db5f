"""Conventions that several layouts share: names of splits, printable ids, channels, options, unpaired files."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from pipeline.datasets.layouts.listing import Listing, note, note_names
from pipeline.datasets.manifests.manifest import SPLITS, Case, Manifest, Split
from pipeline.datasets.probes import ImageError, Probe, probe_image
from pipeline.issues import InputError, Issue, join_lines, show_controls

SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
CHANNELS = {1: ("intensity",), 3: ("red", "green", "blue")}


def require_choice(option: str, value: str, allowed: Sequence[str]) -> None:
    """Raise `InputError` unless the value of an option is one of those allowed."""
    if value not in allowed:
        raise InputError(f"--{option} must be one of {', '.join(allowed)}, got {value!r}")


def start_manifest(layout: str, **fields: Any) -> Manifest:
    """Return a layout's manifest without cases; the task is segmentation, other fields that are not given are empty."""
    empty = {"labels": {}, "mask_values": {}, "channels": (), "cases": (), "licence": "", "source": ""}
    return Manifest(layout=layout, **{"name": layout, "task": "segmentation", **empty, **fields})


def name_dataset(listing: Listing, default: str) -> str:
    """Return the name of the dataset's folder, unusual characters replaced."""
    return re.sub(r"[^\w.-]+", "_", listing.root.resolve().name) or default


def make_printable(name: str) -> str:
    r"""Return a name as manifests accept it: ids name folders and are shown on screens.

    Example:
        >>> make_printable("scan\t1")
        'scan_1'
    """
    return "".join(character if character.isprintable() else "_" for character in name)


def clean_texts(manifest: Manifest) -> Manifest:
    r"""Return a manifest whose texts any screen can show: each on one line, without control characters.

    The texts come from files that others wrote, such as a ``dataset.json``. Labels and channels without a name get one.

    Example:
        >>> clean_texts(start_manifest("nnunet", labels={0: "background", 1: " "}, licence="CC BY\n4.0")).labels
        {0: 'background', 1: 'label 1'}
    """
    cases = tuple(
        replace(case, case_id=_clean_id(case.case_id), subject=_clean_id(case.subject)) for case in manifest.cases
    )
    return replace(
        manifest,
        name=join_lines(manifest.name) or manifest.layout,
        licence=join_lines(manifest.licence),
        source=join_lines(manifest.source),
        labels={label: join_lines(name) or f"label {label}" for label, name in manifest.labels.items()},
        channels=tuple(join_lines(name) or f"channel {place}" for place, name in enumerate(manifest.channels, 1)),
        citations=tuple(map(join_lines, manifest.citations)),
        cases=cases,
    )


def _clean_id(name: str) -> str:
    # Some characters that a text may hold, such as the space of Japanese, are not allowed in an id.
    return make_printable(show_controls(name))


def count_channels(listing: Listing, images: Iterable[str]) -> int:
    """Return the number of channels in the header of the first image on disk, 0 if it cannot be read.

    The checks compare the other images with it, and report all that cannot be read.
    """
    first = probe_first(listing, images)
    return first.channels if first else 0


def probe_first(listing: Listing, images: Iterable[str]) -> Probe | None:
    """Return the header of the first image on disk, None if it cannot be read or there is none."""
    on_disk = set(listing.files)
    first = next((path for path in images if path in on_disk), None)
    try:
        return probe_image(listing.root / first, decode=False, is_mask=False) if first else None
    except (ImageError, OSError):
        return None


def sort_cases(cases: Iterable[Case]) -> tuple[Case, ...]:
    """Return the cases by split, then by path of the image."""
    return tuple(sorted(cases, key=lambda case: (SPLITS.index(case.split), case.image)))


def note_unpaired(
    listing: Listing, images: Sequence[str], masks: Sequence[str], unpaired: str, hint: str
) -> list[Issue]:
    """Return a note on images without mask and one on masks without image, which are left out.

    Raises `InputError` if there are such files and ``unpaired`` is ``"refuse"``; the message ends with ``hint``.
    """
    problems = []
    for paths, kind, other in ((images, "image", "mask"), (masks, "mask", "image")):
        if len(paths) == 1:
            problems.append(f"1 {kind} has no {other}: {paths[0]}")
        elif paths:
            problems.append(f"{len(paths)} {kind}s have no {other}, for example {min(paths)}")
    if problems and unpaired == "refuse":
        raise InputError(f"{listing.root}: {'; '.join(problems)}; {hint}")
    return [note("unpaired-file", f"{problem}; left out") for problem in problems]


def note_unlabelled(splits: Iterable[Split], segmented: Collection[Split]) -> list[Issue]:
    """Return a note for each split none of whose images has a mask.

    ``splits`` has the split of each image without mask that is kept; in ``segmented`` others have a mask.
    """
    counts = Counter(splits)
    message = "none of the {} images of {} has a mask; they are cases without label"
    return [note("no-masks", message.format(n, split)) for split, n in counts.items() if split not in segmented]


def note_no_splits(what: str) -> Issue:
    """Return the note that all cases are train, because no folder (or file, ``what``) is named for a split."""
    hint = "python -m pipeline dataset split MANIFEST makes folds or a test set"
    return note("split", f"no {what}; all cases are train", hint=hint)


def note_others(listing: Listing, cases: Iterable[Case], known: Collection[str]) -> tuple[Issue, ...]:
    """Return a note on files that belong to no case, except those with a known name."""
    used = {path for case in cases for path in case.files()}
    others = [path for path in listing.files if path not in used and path.rpartition("/")[2] not in known]
    return note_names("unmatched-file", "belong to no case", others)
