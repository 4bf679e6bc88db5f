"""Cell Tracking Challenge, 2-D: films of cells, ``01/t000.tif``, with masks ``01_GT/SEG/man_seg000.tif``.

============================  ==================================================================================
``01/t000.tif``               frames of the film 01
``01_GT/SEG/man_seg000.tif``  gold masks, drawn by people, often of few frames; exact in computer-generated sets
``01_ST/SEG/man_seg000.tif``  silver masks, the majority of several algorithms, often of every frame
``01_GT/TRA/``                markers of the cells for tracking: not read
``01_ERR_SEG/``               deliberately wrong masks: never read
============================  ==================================================================================

The number of the frame pairs image and mask, with any number of digits.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.datasets.layouts.listing import Listing, ManifestDraft, note, note_names
from pipeline.datasets.layouts.naming import probe_first, require_choice, start_manifest
from pipeline.datasets.manifests.manifest import Case
from pipeline.issues import InputError, Issue

SOURCE = "https://celltrackingchallenge.net/2d-datasets/"
CHOICES: dict[str, tuple[str, ...]] = {"gold": ("GT",), "silver": ("ST",), "gold-else-silver": ("GT", "ST")}
_NAMES = {"GT": "gold", "ST": "silver"}
_CHANNELS = {
    "PhC": "phase contrast",
    "DIC": "differential interference contrast",
    "BF": "bright field",
    "Fluo": "fluorescence",
}
_DATASET = start_manifest(
    "cell_tracking",
    task="instance segmentation",
    licence="conditions of the Cell Tracking Challenge: research, cite Maska et al. 2023",
    source=SOURCE,
    citations=(
        "Maška, Ulman, Delgado-Rodriguez, Gómez-de-Mariscal, Nečasová, et al.: The Cell Tracking Challenge: 10 years of"
        " objective benchmarking. Nature Methods 20, 1010-1020, 2023.",
    ),
    labels={0: "background", 1: "cell"},
    mask_type="instance",
    channels=("intensity",),
)
_FRAME = re.compile(r"(?P<set>.*/|)(?P<film>\d{2})/t(?P<number>\d{3,})\.tiff?", re.IGNORECASE)
_MASK = re.compile(
    r"(?P<set>.*/|)(?P<film>\d{2})_(?P<source>GT|ST)/SEG/man_seg(?P<number>\d{3,})\.tiff?", re.IGNORECASE
)
# A drawn plane of a volume: frame and plane.
_PLANE = re.compile(r"(?:.*/|)\d{2}_(?:GT|ST)/SEG/man_seg_?\d{3,}_\d{3,}\.tiff?", re.IGNORECASE)
_WRONG = re.compile(r"(?:.*/|)\d{2}_ERR_SEG/", re.IGNORECASE)
_TRACKING = re.compile(r"(?:.*/|)\d{2}_(?:GT|ST)/TRA/", re.IGNORECASE)
_CHECKSUMS = re.compile(r"(?:.*/|)(?:sha256|md5)sums(?:\.txt)?", re.IGNORECASE)


@dataclass
class _Film:
    """Files of one film by the frame's number."""

    frames: dict[int, str] = field(default_factory=dict)
    masks: dict[str, dict[int, str]] = field(default_factory=lambda: {"GT": {}, "ST": {}})


def read(listing: Listing, *, masks: str = "gold", unlabelled: str = "drop") -> ManifestDraft:
    """Read a set of films, or the folder that holds one.

    A case is a frame. Its subject is its film: neighbouring frames are near copies, so a film must not be split. All
    cases are ``"train"``, because the challenge's test films have no masks; `pipeline dataset split` splits by film.

    Args:
        listing: the set's folder (``PhC-C2DH-U373``), or one above it.
        masks: ``"gold"``, ``"silver"`` or ``"gold-else-silver"``; one for all films, or one for each:
            ``"01=silver,02=gold"``, other films are then left out.
        unlabelled: ``"drop"`` leaves frames without such a mask out, ``"keep"`` makes them cases without label.

    Returns:
        The draft of instance segmentation; cells are numbered within each frame.

    Raises:
        InputError: no films, no such masks, several sets, volumes, a frame that occurs twice, or a bad option.

    Example:
        >>> from pathlib import Path
        >>> files = ("01/t000.tif", "01/t001.tif", "01_GT/SEG/man_seg0001.tif")
        >>> case = read(Listing(Path("Fluo-N2DH-X"), files=(), absent=files)).manifest.cases[0]
        >>> case.case_id, case.subject, case.label
        ('01_t001', 'Fluo-N2DH-X/01', ('01_GT/SEG/man_seg0001.tif',))
    """
    require_choice("unlabelled", unlabelled, ("drop", "keep"))
    name, films, others = _gather(listing)
    _require_planar(listing, name, films)
    wanted = _parse_masks(masks, films)
    notes: list[Issue] = []
    cases: list[Case] = []
    for number in sorted(wanted):
        film = films[number]
        # The first source that has a mask of a frame wins.
        labels = {frame: path for source in reversed(wanted[number]) for frame, path in film.masks[source].items()}
        cases += _make_cases(name, number, film, labels, keep=unlabelled == "keep")
        notes += _note_film(number, film, labels, kept=unlabelled == "keep")
    if not any(case.label for case in cases) and unlabelled == "drop":
        film_name, sources = next(iter(wanted.items()))
        expected = f"expected for example {film_name}_{sources[0]}/SEG/man_seg000.tif"
        hint = "--unlabelled keep takes frames without mask, for prediction"
        raise InputError(f"{listing.root}: no frame has a mask for --masks {masks}, {expected}; {hint}")
    head = replace(_DATASET, name=name, channels=(_CHANNELS.get(name.split("-")[0], "intensity"),))
    return ManifestDraft(replace(head, cases=tuple(cases)), (*notes, *_note_others(others)))


def _gather(listing: Listing) -> tuple[str, dict[str, _Film], list[str]]:
    """Return the set's name, its films by their number, and all other files on disk."""
    films: dict[tuple[str, str], _Film] = defaultdict(_Film)
    others = []
    absent = set(listing.absent)
    for path in listing.known():
        frame, mask = _FRAME.fullmatch(path), _MASK.fullmatch(path)
        match = frame or mask
        if match:
            film = films[match["set"], match["film"]]
            table = film.masks[mask["source"].upper()] if mask else film.frames
            _add(table, int(match["number"]), path)
        elif _PLANE.fullmatch(path):
            raise InputError(f"{listing.root}: {path} is a plane of a volume; only sets of 2-D films can be read")
        elif path not in absent:
            others.append(path)
    root = _find_set(listing, {folder for (folder, _), film in films.items() if film.frames})
    name = root.rstrip("/").rpartition("/")[2] or listing.root.resolve().name
    return name, {film: content for (folder, film), content in films.items() if folder == root}, others


def _find_set(listing: Listing, folders: set[str]) -> str:
    """Return the one folder that holds films."""
    sets = sorted(folders)
    if not sets:
        expected = f"expected 01/t000.tif and 01_GT/SEG/man_seg000.tif, as downloaded from {SOURCE}"
        raise InputError(f"no films under {listing.root}; {expected}")
    if len(sets) > 1:
        shown = " and ".join(folder.rstrip("/") or "." for folder in sets[:2])
        raise InputError(f"{listing.root} holds {len(sets)} sets of films, for example {shown}; name one of them")
    return sets[0]


def _add(table: dict[int, str], number: int, path: str) -> None:
    if number in table:
        raise InputError(f"frame {number} occurs twice: {table[number]} and {path}; keep one")
    table[number] = path


def _require_planar(listing: Listing, name: str, films: Mapping[str, _Film]) -> None:
    """Refuse volumes, by the name of the set or by the header of the first frame."""
    # A frame that cannot be read is reported with all other broken files, when they are read.
    first = probe_first(listing, (path for film in films.values() for path in film.frames.values()))
    if re.search(r"-[CN]3D", name) or (first and first.pages > 1):
        raise InputError(f"{listing.root}: the frames of {name} are volumes; only sets of 2-D films can be read")


def _parse_masks(text: str, films: Mapping[str, _Film]) -> dict[str, tuple[str, ...]]:
    """Return the folders of masks to look into, by film."""
    known = sorted(number for number, film in films.items() if film.frames)
    if text in CHOICES:
        return dict.fromkeys(known, CHOICES[text])
    wanted = {}
    for part in text.split(","):
        number, mark, choice = (word.strip() for word in part.partition("="))
        if not mark or choice not in CHOICES:
            expected = f"expected {', '.join(CHOICES)}, or one for each film: 01=silver,02=gold"
            raise InputError(f"--masks: cannot read {part.strip()!r}; {expected}")
        if number not in known:
            raise InputError(f"--masks: there is no film {number!r}; films: {', '.join(known)}")
        wanted[number] = CHOICES[choice]
    return wanted


def _make_cases(name: str, number: str, film: _Film, labels: Mapping[int, str], *, keep: bool) -> Iterator[Case]:
    for frame, path in sorted(film.frames.items()):
        if keep or frame in labels:
            case_id = f"{number}_{path.rpartition('/')[2].rpartition('.')[0]}"
            label = (labels[frame],) if frame in labels else None
            yield Case(case_id, f"{name}/{number}", (path,), label, facts={"sequence": number, "frame": frame})


def _note_film(number: str, film: _Film, labels: Mapping[int, str], *, kept: bool) -> Iterator[Issue]:
    """Yield a note on frames without mask, and one on masks without frame."""
    used = [number for number in labels if number in film.frames]
    there = ", ".join(f"{len(film.masks[key])} {word}" for key, word in _NAMES.items())
    bare = len(film.frames) - len(used)
    if bare:
        fate = "kept without label" if kept else "left out"
        message = f"film {number}: {bare} of {len(film.frames)} frames have no such mask and were {fate}"
        hint = "" if kept else "--unlabelled keep keeps them, --masks chooses among gold and silver"
        yield note("unlabelled-frames", f"{message} ({there} masks)", hint=hint)
    orphans = [path for frame, path in labels.items() if frame not in film.frames]
    yield from note_names("unmatched-file", f"of film {number} are masks without a frame", orphans)


def _note_others(paths: Sequence[str]) -> Iterator[Issue]:
    wrong = {path for path in paths if _WRONG.match(path)}
    tracking = {path for path in paths if _TRACKING.match(path)}
    others = {path for path in paths if not _CHECKSUMS.fullmatch(path)} - wrong - tracking
    yield from note_names("ignored-file", "are deliberately wrong masks, never read", wrong)
    yield from note_names("ignored-file", "are for tracking and were ignored", tracking)
    yield from note_names("unmatched-file", "belong to no film", others)
