"""Which mask belongs to which image, by their names."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from pipeline.datasets.layouts.patterns import split_ending
from pipeline.datasets.ordering import slice_key
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
# ``x_mask_1``, ``x_mask1``, ``x_mask (1)``: a further mask of the image of ``x_mask``.
_FURTHER = re.compile(rf"(?P<first>(?:.*[-_. ])?(?:{_MASK_WORDS}))[-_. ]?(?:\d+|\(\d+\))", re.IGNORECASE)


@dataclass(frozen=True)
class NamedFile:
    """An image or a mask, with the parts of its name that pair it."""

    path: str  #: relative to the dataset's folder, as on disk
    context: Context  #: its folders, without those named for images and masks
    wild: str  #: the part of its name that the wildcards of the user's pattern match; the stem without a pattern
    is_mask: bool  #: whether it is a mask

    @property
    def stem(self) -> str:
        """Name without ending, in composed Unicode."""
        return split_ending(self.path)[0].rpartition("/")[2]

    @property
    def bare_stem(self) -> str:
        """Stem without usual words such as ``_mask`` or ``img_``."""
        return strip_words(self.stem, is_mask=self.is_mask)


def pair_files(images: Sequence[NamedFile], masks: Sequence[NamedFile]) -> dict[str, str]:
    """Return the path of each image's mask, by path of the image.

    Both must have the same context. They are paired in three rounds, by equal `wild`, equal `stem`, then equal
    `bare_stem`; each round pairs only the files that are left. Raises `InputError` if two masks fit one image, or two
    images one mask.

    Example:
        >>> image = NamedFile("images/a.png", (), "a", is_mask=False)
        >>> pair_files([image], [NamedFile("masks/a_mask.png", (), "a_mask", is_mask=True)])
        {'images/a.png': 'masks/a_mask.png'}
    """
    pairs: dict[str, str] = {}
    for name in map(attrgetter, ("wild", "stem", "bare_stem")):
        taken = {*pairs, *pairs.values()}
        left, right = (_index(files, name, taken) for files in (images, masks))
        for key in filter(right.__contains__, left):
            _require_one(left[key], right[key])
            _require_one(right[key], left[key])
            pairs[left[key][0].path] = right[key][0].path
    return pairs


def _index(
    files: Iterable[NamedFile], name: Callable[[NamedFile], str], taken: set[str]
) -> Mapping[Key, list[NamedFile]]:
    table: dict[Key, list[NamedFile]] = defaultdict(list)
    for file in files:
        if file.path not in taken:
            table[file.context, name(file)].append(file)
    return table


def _require_one(files: Sequence[NamedFile], others: Sequence[NamedFile]) -> None:
    if len(files) > 1:
        hint = "name the files with --image and --mask so that one is left"
        raise InputError(f"both {files[0].path} and {files[1].path} fit {others[0].path}; {hint}")


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


def find_further_masks(pairs: Mapping[str, str], paths: Iterable[str]) -> dict[str, list[str]]:
    """Return the further masks of each image: files beside its mask whose names are the mask's with a number.

    Args:
        pairs: path of each image's first mask, by path of the image.
        paths: files that are not in a pair.

    Returns:
        Further masks by path of the image, sorted by number.

    Example:
        >>> find_further_masks({"a.png": "a_mask.png"}, ["a_mask_10.png", "a_mask_2.png", "b_mask_1.png", "a_1.png"])
        {'a.png': ['a_mask_2.png', 'a_mask_10.png']}
    """
    owners = {split_ending(mask)[0]: image for image, mask in pairs.items()}
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(paths, key=lambda path: slice_key(split_ending(path)[0].rstrip(")"))):
        folder, slash, name = split_ending(path)[0].rpartition("/")
        match = _FURTHER.fullmatch(name)
        owner = owners.get(f"{folder}{slash}{match['first']}") if match else None
        if owner is not None:
            found[owner].append(path)
    return dict(found)
