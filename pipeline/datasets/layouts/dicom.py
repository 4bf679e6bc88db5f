"""DICOM series: any tree of folders; each series of images is a case, without label."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath

from pipeline.datasets.digests import map_threads
from pipeline.datasets.layouts.listing import Listing, ManifestDraft, note, note_names
from pipeline.datasets.layouts.naming import start_manifest
from pipeline.datasets.manifests.manifest import Case
from pipeline.datasets.probes import ImageError, ImageSource, find_ending, is_dicom
from pipeline.datasets.probes.dicom import SliceFacts, read_slice_facts
from pipeline.datasets.probes.dicom_series import measure_step, sort_slices
from pipeline.issues import InputError, Issue

_DATASET = start_manifest(
    "dicom",
    labels={0: "background"},
    mask_values={0: 0},
    channels=("image",),
    spacing_policy="header",
    stacking="series",
)


def read(listing: Listing) -> ManifestDraft:
    """Read a tree of DICOM files.

    The files of a folder that share SeriesInstanceUID, size and direction of their plane are a case, in order of their
    place along the normal of their plane (localisers of one series with three directions are three cases). All are
    test cases, because there are no labels.

    Patients are numbered in order of their first file, ``patient_001``, ...: the manifest must not disclose their ids,
    and hashes of ids can be reversed by trying all of them. The manifest does contain the names of folders and files.

    Raises:
        InputError: there is no DICOM image, or files that cannot be read (the first, and how many more).
    """
    names = [name for name in listing.files if may_be_dicom(listing, name)]
    facts = _read_facts(listing, names)
    images = {name: found for name, found in facts.items() if found.shape}
    ids = dict.fromkeys(found.patient for found in images.values() if found.patient)
    patients = {"": "", **{patient: f"patient_{number:03d}" for number, patient in enumerate(ids, start=1)}}
    groups: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for name, found in images.items():
        direction = tuple(round(value, 2) + 0.0 for value in found.orientation)
        groups[PurePosixPath(name).parent, found.series, found.shape, direction].append(name)
    names_of_cases = _name_cases([files[0] for files in groups.values()])
    cases = tuple(
        _case(case_id, patients, {name: images[name] for name in files})
        for case_id, files in zip(names_of_cases, groups.values(), strict=True)
    )
    modalities = sorted({found.modality for found in images.values()})
    channels = (modalities[0],) if len(modalities) == 1 and modalities[0] else ("image",)
    notes = [
        *note_names("no-pixels", "are DICOM without an image and were left out", set(facts) - set(images)),
        *note_names("unmatched-file", "are not DICOM", set(listing.files) - set(names)),
        note("private-names", "the manifest contains names of folders and files: make sure that they name no patients"),
    ]
    return ManifestDraft(replace(_DATASET, channels=channels, cases=cases), tuple(notes))


def may_be_dicom(listing: Listing, name: str) -> bool:
    """Return whether a file is DICOM by its ending or, without one, by its first bytes; an index (DICOMDIR) is not."""
    ending = find_ending(name)
    if ending or PurePosixPath(name).name.upper() == "DICOMDIR":
        return ending == ".dcm"
    return is_dicom(ImageSource(listing.root / name))


def _read_facts(listing: Listing, names: Iterable[str]) -> dict[str, SliceFacts]:
    """Return the facts of each file; at least one is an image."""

    def read_one(name: str) -> SliceFacts | Issue:
        try:
            return read_slice_facts(ImageSource(listing.root / name))
        except ImageError as error:
            return Issue(error.code, "error", error.message, path=name, hint=error.hint)

    ordered = sorted(names)
    results = dict(zip(ordered, map_threads(read_one, ordered), strict=True))
    facts = {name: found for name, found in results.items() if isinstance(found, SliceFacts)}
    broken = [found for found in results.values() if isinstance(found, Issue)]
    if not any(found.shape for found in facts.values()):
        reason = f"; {broken[0].path}: {broken[0].message}" if broken else ""
        raise InputError(f"no DICOM images under {listing.root}; expected files *.dcm, or files with DICM{reason}")
    if broken:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise InputError(f"{listing.root / broken[0].path}: {broken[0].message}{more}; {broken[0].hint}")
    return facts


def _name_cases(first_files: list[str]) -> list[str]:
    """Return a name for each series: its folder, numbered where a folder has several."""
    folders = [PurePosixPath(name).parent for name in first_files]
    names = ["_".join(folder.parts) or "series" for folder in folders]
    total, seen = Counter(names), Counter[str]()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if total[name] == 1 else f"{name}_{seen[name]}")
    return result


def _case(case_id: str, patients: dict[str, str], files: dict[str, SliceFacts]) -> Case:
    order = sort_slices(files)
    first = files[order[0]]
    step = measure_step([files[name] for name in order])
    spacing = [*first.spacing, step] if first.spacing and step else None
    return Case(case_id, patients[first.patient], tuple(order), None, "test", facts={"spacing": spacing})
