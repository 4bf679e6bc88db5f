"""Which mask belongs to which image, told by their names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.datasets.layouts.patterns import split_ending
from pipeline.issues import InputError

Context = tuple[str, ...]
Key = tuple[Context, str]

IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "img", "input", "inputs"})
MASK_FOLDERS = frozenset(
    {
        *("masks", "mask", "labels", "label", "segmentations", "segmentation", "seg", "segs"),
        *("groundtruth", "ground_truth", "gt", "annotations", "annotation"),
    }
)
_MASK_WORDS = "masks?|segmentations?|seg|labels?|labelmap|gt|ground_?truth|annotations?"
_IMAGE_WORDS = "images?|img|input"


@dataclass(frozen=True)
class Entry:
    """An image or a mask.

    Args:
        path: relative to the dataset's folder, as on disk.
        context: the folders that tell files of equal names apart, those named for images and masks left out.
        wild: what the wildcards of the user's pattern stand for in its name; the stem without pattern.
        is_mask: whether it is a mask.
    """

    path: str
    context: Context
    wild: str
    is_mask: bool

    @property
    def stem(self) -> str:
        """Name without ending, in composed Unicode."""
        return split_ending(self.path)[0].rpartition("/")[2]


def pair_files(images: Sequence[Entry], masks: Sequence[Entry]) -> dict[str, str]:
    """Find the mask of each image.

    Both lie in the same folders, those named for images and masks left out. Then they belong together if what the
    wildcards of the patterns stand for is equal; of what is left, if the stems are; of what is left then, if the stems
    are equal without usual words such as ``_mask`` or ``img_``.

    Args:
        images: the images.
        masks: the masks.

    Returns:
        Path of the mask by path of the image.

    Raises:
        InputError: two masks fit one image, or two images one mask.

    Example:
        >>> image = Entry("images/a.png", (), "a", is_mask=False)
        >>> pair_files([image], [Entry("masks/a_mask.png", (), "a_mask", is_mask=True)])
        {'images/a.png': 'masks/a_mask.png'}
    """
    pairs: dict[str, str] = {}
    names: tuple[Callable[[Entry], str], ...] = (
        lambda entry: entry.wild,
        lambda entry: entry.stem,
        lambda entry: strip_words(entry.stem, is_mask=entry.is_mask),
    )
    for name in names:
        taken = {*pairs, *pairs.values()}
        left, right = (_index(entries, name, taken) for entries in (images, masks))
        for key, entries in left.items():
            if key in right:
                pairs[entries[0].path] = right[key][0].path
                _require_one(entries, right[key])
                _require_one(right[key], entries)
    return pairs


def _index(entries: Iterable[Entry], name: Callable[[Entry], str], taken: set[str]) -> Mapping[Key, list[Entry]]:
    table: dict[Key, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.path not in taken:
            table[entry.context, name(entry)].append(entry)
    return table


def _require_one(entries: Sequence[Entry], others: Sequence[Entry]) -> None:
    if len(entries) > 1:
        both = f"{entries[0].path} and {entries[1].path}"
        hint = "name the files with --image and --mask so that one is left"
        raise InputError(f"both {both} fit {others[0].path}; {hint}")


def describe_unpaired(images: Sequence[str], masks: Sequence[str]) -> list[str]:
    """Return how many images lack a mask and how many masks an image, in words, with the first of them.

    Example:
        >>> describe_unpaired(["b.png", "a.png"], ["x.png"])
        ['2 images have no mask, for example a.png', '1 mask has no image: x.png']
    """
    lines = []
    for paths, kind, other in ((images, "image", "mask"), (masks, "mask", "image")):
        if len(paths) == 1:
            lines.append(f"1 {kind} has no {other}: {paths[0]}")
        elif paths:
            lines.append(f"{len(paths)} {kind}s have no {other}, for example {min(paths)}")
    return lines


def strip_words(stem: str, *, is_mask: bool) -> str:
    """Return a stem without a usual word for a mask (or an image) at its end or beginning.

    Example:
        >>> strip_words("scan7_Segmentation", is_mask=True), strip_words("img_7", is_mask=False)
        ('scan7', '7')
        >>> strip_words("mask", is_mask=True)
        'mask'
    """
    words = _MASK_WORDS if is_mask else _IMAGE_WORDS
    short = re.sub(rf"[-_. ](?:{words})$", "", stem, flags=re.IGNORECASE)
    short = re.sub(rf"^(?:{words})[-_. ]", "", short, flags=re.IGNORECASE) if short == stem else short
    return short or stem
