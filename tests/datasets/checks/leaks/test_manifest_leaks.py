"""Leaks that the manifest reveals: patients, files, volumes by their names."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pipeline.datasets.checks.leaks.manifest_leaks import (
    Leak,
    find_leaking_files,
    find_leaking_subjects,
    find_leaking_volumes,
    name_part,
)
from pipeline.datasets.manifests.manifest import Case, Manifest


def make_manifest(*cases: Case, **fields: object) -> Manifest:
    manifest = Manifest("x", "segmentation", "", "", {0: "background"}, {0: 0}, ("grey",), cases)
    return replace(manifest, **fields)  # type: ignore[arg-type]


def make_case(name: str, split: str = "train", **fields: object) -> Case:
    return Case(name, str(fields.pop("subject", "")), (f"{name}.png",), split=split, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "second", "leaks"),
    [
        ("p1", " P1 ", True),
        ("Müller", "Mu\u0308ller", True),
        ("p1", "p2", False),
        ("", "", False),
        ("unknown", "Unknown", False),
        ("n/a", "N/A ", False),
    ],
)
def test_patients_are_compared_as_people_write_them(first: str, second: str, leaks: bool) -> None:
    manifest = make_manifest(make_case("a", subject=first), make_case("b", "test", subject=second))
    assert [issue.code for issue in find_leaking_subjects(manifest)] == ["leak-patient"] * leaks


def test_a_leaking_patient_is_shown_by_two_files() -> None:
    manifest = make_manifest(make_case("t", "test", subject="p"), make_case("v", "val", subject="p"))
    (leak,) = find_leaking_subjects(manifest)
    assert isinstance(leak, Leak)
    assert (leak.severity, leak.path, leak.record, leak.other, leak.other_record) == (
        "error",
        "t.png",
        "t",
        "v.png",
        "v",
    )
    assert leak.message == "patient 'p' is in 2 parts: test (t), val (v)"
    assert leak.to_dict()["other"] == "v.png"


def make_film(parts: str, **facts: object) -> Manifest:
    """A film of one frame a letter (t train, v val, x excluded), with the split ``time``."""
    cases = [
        make_case(f"f{frame:02d}", subject="film", facts={"sequence": "01", "frame": frame, **facts})
        for frame in range(len(parts))
    ]
    lists = {key: [f"f{frame:02d}" for frame, part in enumerate(parts) if part == key[0]] for key in ("val", "xclude")}
    named = {"time": {"description": "", "val": lists["val"], "exclude": lists["xclude"]}}
    return make_manifest(*reversed(cases), named_splits=named)


@pytest.mark.parametrize("parts", ["tttxxvv", "vvxtttt", "ttxvvxtt", "txv"])
def test_a_film_divided_in_time_with_a_gap_is_a_warning(parts: str) -> None:
    (leak,) = find_leaking_subjects(make_film(parts))
    assert (leak.code, leak.severity) == ("leak-time", "warning")
    assert leak.message == (
        f"film 'film' is divided in time by the split 'time': {parts.count('t')} frames train, {parts.count('v')} "
        f"validate, {parts.count('x')} between them are left out"
    )


@pytest.mark.parametrize("parts", ["tttvv", "ttxvvt", "tvx", "xtvxt"])
def test_a_film_divided_without_a_gap_is_an_error(parts: str) -> None:
    (leak,) = find_leaking_subjects(make_film(parts))
    assert (leak.code, leak.severity) == ("leak-patient", "error")
    assert "time train (f" in leak.message


@pytest.mark.parametrize("facts", [{"sequence": None}, {"frame": None}])
def test_only_films_can_be_divided_in_time(facts: dict[str, object]) -> None:
    assert [leak.code for leak in find_leaking_subjects(make_film("ttxvv", **facts))] == ["leak-patient"]


@pytest.mark.parametrize("parts", ["ttxx", "xxvv", "xxx", "vv", "tt"])
def test_excluded_cases_are_in_no_part(parts: str) -> None:
    assert list(find_leaking_subjects(make_film(parts))) == []


def stack(name: str, split: str, digests: list[str]) -> Case:
    paths = tuple(f"{name}/{number}.tif" for number in range(len(digests)))
    return Case(name, "", paths, split=split, sha256=dict(zip(paths, digests, strict=True)))  # type: ignore[arg-type]


def test_a_copied_stack_is_reported_once() -> None:
    manifest = make_manifest(stack("a", "train", ["1", "2", "3"]), stack("b", "val", ["3", "1", "9"]))
    (leak,) = find_leaking_files(manifest)
    assert (leak.code, leak.severity, leak.path, leak.record) == ("leak-file", "error", "b/0.tif", "b")
    assert leak.message == (
        "the same bytes as a/2.tif: one is in train, the other in val (2 files of the two cases are equal)"
    )


def test_copies_in_one_part_and_files_without_digest_are_no_leaks() -> None:
    inside = make_manifest(stack("a", "train", ["1"]), stack("b", "train", ["1"]))
    unknown = make_manifest(make_case("a"), make_case("b", "test"))
    assert [*find_leaking_files(inside), *find_leaking_files(unknown)] == []


def slices(subjects: tuple[str, str] = ("", ""), splits: str = "train train test test") -> Manifest:
    cases = [
        make_case(f"p{patient}_{number}", splits.split()[number], subject=subjects[patient])
        for patient in (0, 1)
        for number in range(4)
    ]
    return make_manifest(*cases)


def test_divided_volumes_are_named() -> None:
    leaks = list(find_leaking_volumes(slices()))
    assert [(leak.code, leak.severity, leak.path) for leak in leaks] == [
        ("leak-volume", "warning", "p0_2.png"),
        ("leak-volume", "warning", "p1_2.png"),
    ]
    assert (
        leaks[0].message
        == "file names suggest one volume 'p0_' of 4 images that is split across parts: 2 in test, 2 in train"
    )
    assert isinstance(leaks[0], Leak)
    assert leaks[0].other == "p0_0.png"


def test_a_divided_film_is_named() -> None:
    cases = [make_case(f"t{n}", "val" if n > 3 else "train", facts={"sequence": "02", "frame": n}) for n in range(6)]
    (leak,) = find_leaking_volumes(make_manifest(*cases))
    assert (
        leak.message == "file names suggest one film '02' of 6 images that is split across parts: 4 in train, 2 in val"
    )


def test_volumes_of_one_known_patient_are_left_to_leak_patient() -> None:
    manifest = slices(("a", "b"))
    assert list(find_leaking_volumes(manifest)) == []
    assert len(list(find_leaking_subjects(manifest))) == 2


def test_volumes_in_one_part_are_no_leak() -> None:
    assert list(find_leaking_volumes(slices(splits="train train train train"))) == []


@pytest.mark.parametrize(
    ("split", "fold", "part"),
    [("train", None, "train"), ("train", 3, "fold 3"), ("test", 1, "test"), ("val", None, "val")],
)
def test_parts(split: str, fold: int | None, part: str) -> None:
    assert name_part(make_case("a", split, fold=fold)) == part


def test_a_named_split_is_read_once_for_all_subjects() -> None:
    read = []

    class Listed(list[str]):
        def __iter__(self) -> Iterator[str]:
            read.append(len(self))
            return super().__iter__()

    cases = [make_case(f"{subject}_{number}", subject=f"s{subject}") for subject in range(50) for number in range(2)]
    named = {"other": {"description": "", "val": Listed(["3_0", "7_0", "7_1"]), "exclude": Listed(["9_0"])}}
    leaks = list(find_leaking_subjects(make_manifest(*cases, named_splits=named)))
    assert [leak.message for leak in leaks] == ["patient 's3' is in 2 parts: other train (3_1), other val (3_0)"]
    assert sorted(read) == [1, 3]


@pytest.mark.parametrize("ending", [".mhd", ".NHDR"])
def test_headers_without_voxels_are_no_copies(ending: str) -> None:
    paths = [f"p1/scan{ending}", f"p2/scan{ending}"]
    cases = [
        Case(path[:2], "", (path,), split=split, sha256={path: "1"})  # type: ignore[arg-type]
        for path, split in zip(paths, ("train", "test"), strict=True)
    ]
    assert list(find_leaking_files(make_manifest(*cases))) == []
