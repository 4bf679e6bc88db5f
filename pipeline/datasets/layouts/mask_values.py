"""The meaning of mask values: given by the user, or proposed from all masks where it is unambiguous."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.datasets.checks.image_files import INVERTED_HINT
from pipeline.datasets.digests import map_threads
from pipeline.datasets.layouts.listing import Listing, note
from pipeline.datasets.probes import ImageError, Probe, expected_format, probe_image
from pipeline.issues import InputError, Issue

# Masks from which a value of one of them alone is conspicuous.
_MANY = 3
INSTANCES = "instances"
MAX_LABELS = 32
_SHOWN = 8


@dataclass(frozen=True)
class Occurrence:
    """Where a value occurs."""

    path: str  #: the first mask that holds it
    pixels: int  #: how many pixels of that mask hold it
    masks: int = 1  #: number of masks that hold it


def explain_masks(
    listing: Listing, masks: Sequence[str], mask_values: str | None, binarize: str | None
) -> tuple[dict[str, Any], list[Issue]]:
    """Return the manifest's fields about masks, and notes on what was decided."""
    if binarize and mask_values:
        raise InputError("--binarize and --mask-values exclude each other; masks with a threshold have two labels")
    if binarize:
        if not re.fullmatch(r"\d+(\.\d+)?", binarize):
            raise InputError(f"--binarize expects a number such as 128, got {binarize!r}")
        return {**parse_mask_values("0,255"), "binarize": float(binarize)}, []
    lossy = [path for path in masks if expected_format(path) == "JPEG"]
    if lossy:
        message = f"{len(lossy)} masks are JPEG, which changes their values, for example {lossy[0]}"
        raise InputError(f"{listing.root}: {message}; --binarize 128 takes values from 128 on as label")
    return (parse_mask_values(mask_values), []) if mask_values else _read_values(listing, masks)


def _read_values(listing: Listing, masks: Sequence[str]) -> tuple[dict[str, Any], list[Issue]]:
    """Return the manifest's fields about masks by the values that occur in all of them."""
    found = observe_values(listing, masks)
    if not found:
        return parse_mask_values("0,1"), []
    if len(found) == 3 and {0, 1} < set(found) and 1 not in observe_values(listing, _skip_bits(listing, masks)):
        # 1 is the foreground of the masks of 1 bit, and the other value that of the grey ones.
        return parse_mask_values(f"0,1=foreground,{max(found):g}=foreground"), []
    try:
        meaning = parse_mask_values(propose_mask_values(found))
    except InputError as error:
        raise InputError(f"{listing.root}: {error}{name_strays(found)}") from None
    names = ", ".join(f"{value} = {meaning['labels'][label]}" for value, label in meaning["mask_values"].items())
    hint = "--mask-values gives them other names"
    return meaning, [note("mask-values", f"read from all masks: {names}", hint=hint)]


def _skip_bits(listing: Listing, masks: Sequence[str]) -> list[str]:
    """Return the masks that are not stored with 1 bit per pixel."""
    return [path for path in masks if probe_mode(listing, path) != "1"]


def parse_mask_values(text: str) -> dict[str, Any]:
    """Read ``"0,255"``, ``"0,128=cyst,255=tumour"`` or ``"instances"``.

    Values become the label ids 0, 1, 2, ... in the order given, background first; values of one name become one label.
    Returns the fields ``labels``, ``mask_values`` and ``mask_type`` of a manifest. Raises `InputError` if the text
    cannot be read.

    Example:
        >>> parse_mask_values("0,128=lesion,255=lesion")["mask_values"]
        {0: 0, 128: 1, 255: 1}
    """
    if text.strip() == INSTANCES:
        return {"labels": {0: "background", 1: "object"}, "mask_values": {}, "mask_type": "instance"}
    names: list[str] = []
    values: dict[int, int] = {}
    parts = [part.partition("=") for part in text.split(",")]
    for number, mark, name in parts:
        if not re.fullmatch(r"\s*-?\d+\s*", number) or int(number) in values or (mark and not name.strip()):
            expected = "expected values, background first: 0,255 or 0,128=cyst,255=tumour; or instances"
            raise InputError(f"--mask-values: cannot read {text!r}; {expected}")
        usual = "background" if not names else "foreground" if len(parts) == 2 else f"label {len(names)}"
        label = name.strip() or usual
        if label not in names:
            names.append(label)
        values[int(number)] = names.index(label)
    if len(names) < 2:
        raise InputError(f"--mask-values: {text!r} holds one label; expected the background and at least one more")
    return {"labels": dict(enumerate(names)), "mask_values": values, "mask_type": "semantic"}


def propose_mask_values(values: Iterable[float]) -> str:
    """Return the text for `parse_mask_values` if all values of all masks are 0 and one more, or 0 to n.

    Raises `InputError` if the values are ambiguous, or are not labels.

    Example:
        >>> propose_mask_values([0, 255]), propose_mask_values([2, 1, 0])
        ('0,255', '0,1,2')
    """
    found = sorted(set(values))
    text = ",".join(f"{value:g}" for value in found)
    whole = all(value % 1 == 0 for value in found)
    counts_up = found == list(range(len(found))) and len(found) <= MAX_LABELS
    if len(found) > 1 and whole and found[0] == 0 and (len(found) == 2 or counts_up):
        return text
    raise InputError(_explain_refusal(found, text, whole))


def _explain_refusal(found: list[float], text: str, whole: bool) -> str:
    """Return why values are not labels, and the options that say what they are."""
    shown = ", ".join(f"{value:g}" for value in found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
    # Half of 255, or of the largest value: that of probabilities is 1.
    threshold = f"--binarize {found[-1] / 2 if 0 < found[-1] < 128 else 128:g}"
    if whole and len(found) <= MAX_LABELS:
        example = text if len(found) > 1 and found[0] == 0 else "0,255"
        what = f"{len(found)} values ({shown})" if len(found) > _SHOWN else shown
        hint = f"list the values of the labels, background first: --mask-values {example}"
        if found == [0, 1, 255]:
            hint += " (two labels) or --mask-values 0,1=lesion,255=lesion (one)"
        objects = "; --mask-values instances if each is an object" if len(found) > _SHOWN else ""
        return f"the masks hold {what}; {hint}; or {threshold} for blurred borders{objects}"
    hint = f"{threshold} takes values from there on as label"
    hint += ", --mask-values instances reads masks with one number per object" if whole else ""
    return f"the masks hold {len(found)} values ({shown}), which are not labels; {hint}"


def observe_values(listing: Listing, paths: Sequence[str]) -> dict[float, Occurrence]:
    """Return all values of masks on disk and where they occur; raise `InputError` if a mask is coloured."""
    found: dict[float, Occurrence] = {}
    for path, mask in probe_masks(listing, paths):
        if mask.channels != 1 and not mask.header.get("grey"):
            message = f"the mask {path} has {mask.channels} channels that differ, expected grey"
            raise InputError(f"{listing.root}: {message}; save the masks in grey, one value for each label")
        if mask.header.get("inverted"):
            message = f"the grey scale of the mask {path} is inverted (WhiteIsZero), which not all programs apply"
            raise InputError(f"{listing.root}: {message}; {INVERTED_HINT}")
        for value, pixels in (mask.content.counts if mask.content else {}).items():
            seen = found.get(value)
            found[value] = replace(seen, masks=seen.masks + 1) if seen else Occurrence(path, pixels)
    return found


def name_strays(found: Mapping[float, Occurrence]) -> str:
    """Return the end of a message that names values of one mask only, where the others are in most; "" without.

    Example:
        >>> name_strays({0: Occurrence("a", 9, 4), 420: Occurrence("a", 5, 4), 421: Occurrence("b", 1)})
        '; only b holds 421 (1 voxels)'
    """
    total = max((seen.masks for seen in found.values()), default=0)
    strays = {value: seen for value, seen in found.items() if seen.masks == 1}
    if total < _MANY or not strays or any(1 < seen.masks <= total / 2 for seen in found.values()):
        return ""
    if len(strays) > min(_SHOWN, (len(found) - 1) / 2):
        return ""
    return "".join(f"; only {seen.path} holds {value:g} ({seen.pixels} voxels)" for value, seen in strays.items())


def probe_masks(listing: Listing, paths: Iterable[str]) -> Iterator[tuple[str, Probe]]:
    """Yield the masks on disk, decoded; those that cannot be read are skipped here and reported later."""

    def probe(path: str) -> tuple[str, Probe | None]:
        try:
            return path, probe_image(listing.root / path, decode=True, is_mask=True)
        except (ImageError, OSError):
            return path, None

    on_disk = set(listing.files)
    found = map_threads(probe, [path for path in paths if path in on_disk])
    return ((path, mask) for path, mask in found if mask is not None)


def probe_mode(listing: Listing, path: str) -> str:
    """Return Pillow's mode of a mask on disk, "" for other formats and if it cannot be read."""
    try:
        return str(probe_image(listing.root / path, decode=False, is_mask=True).header.get("mode", ""))
    except (ImageError, OSError):
        return ""
