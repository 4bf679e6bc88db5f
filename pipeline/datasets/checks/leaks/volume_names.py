"""Group images that are slices of one volume or frames of one film, by facts or else by file names."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.datasets.probes import find_ending

_ROBOFLOW = re.compile(r"_(jpg|jpeg|png|bmp|tiff?)\.rf\.[0-9a-f]+$", re.IGNORECASE)
_CHANNEL = re.compile(r"_\d{4}$")
_NUMBERED = re.compile(r"^(?P<prefix>.*?)(?P<number>\d+)$")
# Names that do not name the volume of a slice; then the folder must name it.
_GENERIC = re.compile(r"^(|t|z|s|f|i|im|img|image|slice|frame|ct|mr|mri|us|scan)[-_. ]*$", re.IGNORECASE)
_MIN_IMAGES = 3
_MIN_VOLUMES = 2
_MIN_DENSITY = 0.5


@dataclass(frozen=True)
class Volume:
    """Images that belong together."""

    name: str  #: common part of their names, or name of the film
    kind: str  #: ``"volume"`` or ``"film"``
    cases: tuple[Case, ...]  #: the images, in the manifest's order


def group_volumes(manifest: Manifest) -> Iterator[Volume]:
    """Yield volumes and films whose slices or frames are separate cases.

    A fact ``sequence`` names a film. File names name a volume if they look like ``patient7_12.png`` or
    ``patient7/12.png``: a prefix with a digit, then a number. At least three images must share the prefix, at least
    half of the numbers between the first and the last must exist, and there must be at least two such volumes. So the
    running numbers of a whole dataset (``ISIC_0012221``, ``hippocampus_190``) do not count as slices.
    """
    films: dict[str, list[Case]] = defaultdict(list)
    stacks: dict[str, dict[int, list[Case]]] = defaultdict(lambda: defaultdict(list))
    for case in manifest.cases:
        sequence = case.facts.get("sequence")
        if sequence is not None:
            films[str(sequence)].append(case)
        elif not _is_volume(case, manifest):
            prefix, number = split_slice_number(case.image[0], channels=manifest.stacking == "channels")
            if prefix:
                stacks[prefix][number].append(case)
    for name, cases in films.items():
        yield Volume(name, "film", tuple(cases))
    likely = {prefix: numbers for prefix, numbers in stacks.items() if _is_dense(numbers)}
    if len(likely) >= _MIN_VOLUMES:
        order = {id(case): place for place, case in enumerate(manifest.cases)}
        for prefix, numbers in likely.items():
            cases = sorted((case for own in numbers.values() for case in own), key=lambda case: order[id(case)])
            yield Volume(prefix, "volume", tuple(cases))


def _is_volume(case: Case, manifest: Manifest) -> bool:
    several_slices = len(case.image) > 1 and manifest.stacking != "channels"
    return not case.image or several_slices or len(case.facts.get("shape") or ()) > 2


def _is_dense(numbers: dict[int, list[Case]]) -> bool:
    return len(numbers) >= _MIN_IMAGES and len(numbers) >= _MIN_DENSITY * (max(numbers) - min(numbers) + 1)


def split_slice_number(path: str, *, channels: bool = False) -> tuple[str, int]:
    """Return the name of an image's volume and the number of its slice, ("", 0) if its path does not look like a slice.

    Args:
        path: relative to the dataset's folder.
        channels: the names end with a channel such as ``_0000``.

    Example:
        >>> split_slice_number("a/patient7_12.png"), split_slice_number("patient7/slice_003.png")
        (('a/patient7_', 12), ('patient7/', 3))
        >>> split_slice_number("images/ISIC_0012221.jpg"), split_slice_number("train/1816_jpg.rf.7e88.jpg")
        (('', 0), ('', 0))
    """
    pure = PurePosixPath(path)
    stem = _ROBOFLOW.sub("", pure.name[: -len(find_ending(pure.name)) or None])
    stem = _CHANNEL.sub("", stem) if channels else stem
    match = _NUMBERED.match(stem)
    if match is None:
        return "", 0
    prefix, number = match["prefix"], int(match["number"][-18:])
    folder = f"{pure.parent.as_posix()}/" if len(pure.parts) > 1 else ""
    if _GENERIC.match(prefix):
        name, part = folder, pure.parent.name
    else:
        name, part = f"{folder}{prefix}", prefix
    return (name, number) if any(character.isdigit() for character in part) else ("", 0)
