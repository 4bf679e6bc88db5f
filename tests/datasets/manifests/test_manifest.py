import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets import Case, Manifest, read_manifest, write_manifest
from pipeline.datasets.manifests.manifest_file import dump_manifest
from pipeline.datasets.manifests.schema import parse_manifest
from pipeline.issues import InputError

Damage = Callable[[dict[str, Any]], object]


def test_round_trip_and_one_line_a_file(manifest: Manifest, tmp_path: Path) -> None:
    path = write_manifest(manifest, tmp_path / "new" / "m.json")
    assert read_manifest(path) == manifest
    lines = path.read_text().splitlines()
    for case in manifest.cases:
        for file in case.files():
            assert sum(f'"{file}"' in line for line in lines) == 1
    assert [item.name for item in path.parent.iterdir()] == ["m.json"]


def test_file_mode_follows_the_umask(manifest: Manifest, tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        path = write_manifest(manifest, tmp_path / "m.json")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_failing_write_keeps_the_old_file(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_manifest(manifest, tmp_path / "m.json")
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_manifest(replace(manifest, name="other"), path)
    assert path.read_bytes() == before
    assert list(path.parent.glob(".*.tmp")) == []


names = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="\\/:."), min_size=1, max_size=8)


@given(
    st.lists(
        st.builds(
            Case,
            case_id=names,
            subject=names,
            image=st.lists(names, min_size=1, max_size=3).map(tuple),
            label=st.none() | st.lists(names, min_size=1, max_size=3).map(tuple),
            split=st.sampled_from(("train", "val", "test")),
            fold=st.none() | st.integers(0, 9),
            facts=st.fixed_dictionaries({"foreground": st.none() | st.integers(0, 10**9), "group": st.none() | names}),
        ),
        max_size=4,
    )
)
def test_any_manifest_survives_a_round_trip(cases: list[Case]) -> None:
    manifest = Manifest("n", "t", "l", "s", {0: "b"}, {0: 0}, ("c",), tuple(cases))
    parsed, issues = parse_manifest(dump_manifest(manifest).encode())
    assert issues == []
    assert parsed == manifest


def test_short_forms_are_read() -> None:
    text = dump_manifest(Manifest("n", "t", "l", "s", {}, {}, (), (Case("a", "a", ("x.png",)),)))
    data = json.loads(text)
    data["cases"][0]["image"] = "x.png"
    data["cases"][0]["label"] = {"path": "y.png", "sha256": "0" * 64}
    parsed, issues = parse_manifest(b"\xef\xbb\xbf" + json.dumps(data).replace(",", ",\r\n").encode())
    assert issues == []
    assert parsed is not None
    assert parsed.cases[0] == Case("a", "a", ("x.png",), ("y.png",), sha256={"y.png": "0" * 64})


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('"name": "lgg",', '"name": "lgg",\n  "name": "lgg2",', "line 4 column 3: duplicate key 'name'"),
        ('"name": "lgg",', '"name": "lgg"', "line 4 column 3: Expecting ',' delimiter"),
        ('"foreground": 0', '"foreground": NaN', "NaN is not a JSON number"),
        ('"foreground": 0', '"foreground": -Infinity', "-Infinity is not a JSON number"),
        ('"foreground": 0', '"foreground": 0,', "line 20 column"),
        ('"foreground": 0', f'"foreground": {"9" * 5000}', "not usable JSON"),
        ('"foreground": 0', f'"foreground": {"[" * 100_000}', "not usable JSON"),
        ('"name": "lgg",', '"name": "l\udcffg",', "is not UTF-8"),
    ],
)
def test_syntax_errors_have_line_and_column(manifest: Manifest, tmp_path: Path, old: str, new: str, where: str) -> None:
    cases = tuple(replace(case, facts={"foreground": 0}) for case in manifest.cases[:1])
    text = dump_manifest(replace(manifest, cases=cases))
    path = tmp_path / "m.json"
    path.write_bytes(text.replace(old, new, 1).encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as caught:
        read_manifest(path)
    assert f"{path}: manifest-syntax" in str(caught.value)
    assert where in str(caught.value)
    assert "\n" not in str(caught.value)


def test_duplicate_keys_in_nested_objects_are_found_at_their_place(manifest: Manifest) -> None:
    text = dump_manifest(manifest).replace('"subject":', '"fold": 3,\n      "subject":', 1)
    _, issues = parse_manifest(text.encode())
    line = text[: text.index('"fold": null')].count("\n") + 1
    assert [issue.message for issue in issues] == [f"line {line} column 7: duplicate key 'fold'"]


def case(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = data["cases"][1]
    return found


SCHEMA = [
    (lambda d: case(d).update(mask="a.tif"), "manifest-schema", "cases[1].mask: unknown key 'mask'"),
    (
        lambda d: case(d).update(lable=[]),
        "manifest-schema",
        "cases[1].lable: unknown key 'lable'; did you mean 'label'?",
    ),
    (lambda d: case(d)["image"][2].update(sha25="0"), "manifest-schema", "cases[1].image[2].sha25: unknown key"),
    (
        lambda d: case(d)["facts"].update(grup="CS"),
        "manifest-schema",
        "cases[1].facts.grup: unknown key 'grup'; did you",
    ),
    (lambda d: d.update(license="x"), "manifest-schema", "license: unknown key 'license'; did you mean 'licence'?"),
    (lambda d: d.update(schema_version=99), "manifest-schema", "schema_version: schema version 99 is newer than 1"),
    (lambda d: d.update(schema_version=True), "manifest-schema", "schema_version: expected an integer, got True"),
    (lambda d: d.pop("licence"), "manifest-schema", "the key 'licence' is missing"),
    (lambda d: case(d).pop("case_id"), "manifest-schema", "cases[1]: the key 'case_id' is missing"),
    (lambda d: d.update(cases={}), "manifest-schema", "cases: expected a list, got {}"),
    (lambda d: d["cases"].append(7), "manifest-schema", "cases[3]: expected a JSON object, got 7"),
    (lambda d: case(d).update(split="tset"), "split", "cases[1].split: expected one of train, val, test"),
    (lambda d: case(d).update(fold="1"), "manifest-schema", "cases[1].fold: expected an integer, got '1'"),
    (lambda d: case(d).update(fold=-1), "manifest-schema", "cases[1].fold: expected an integer from 0, got -1"),
    (lambda d: case(d).update(image=[]), "manifest-schema", "cases[1].image: expected at least one file"),
    (lambda d: case(d).update(image=[3]), "manifest-schema", "cases[1].image[0]: expected a path"),
    (lambda d: case(d)["image"][0].update(sha256="12"), "manifest-schema", "cases[1].image[0].sha256: expected 64"),
    (lambda d: case(d)["facts"].update(shape="big"), "manifest-schema", "cases[1].facts.shape: expected a list"),
    (
        lambda d: case(d)["facts"].update(foreground=1.5),
        "manifest-schema",
        "cases[1].facts.foreground: expected an int",
    ),
    (lambda d: case(d)["facts"].update(group=1), "manifest-schema", "cases[1].facts.group: expected a text or null"),
    (lambda d: d.update(mask_values={"x": 1}), "manifest-schema", "mask_values.x: expected an integer as key"),
    (lambda d: d.update(mask_values={"1": "a"}), "manifest-schema", "mask_values.1: expected an integer, got 'a'"),
    (lambda d: d.update(labels=["a"]), "manifest-schema", "labels: expected a JSON object"),
    (lambda d: d.update(channels=[1]), "manifest-schema", "channels[0]: expected a text, got 1"),
    (lambda d: d.update(spacing_policy="mm"), "manifest-schema", "spacing_policy: expected one of none, header"),
    (lambda d: d.update(named_splits={"a": []}), "manifest-schema", "named_splits.a: expected a JSON object"),
    (lambda d: d.update(named_splits={"a": {}}), "manifest-schema", "named_splits.a: the key 'val' is missing"),
    (
        lambda d: d.update(named_splits={"a": {"val": [], "exclude": [1]}}),
        "manifest-schema",
        "named_splits.a.exclude[0]: expected a text, got 1",
    ),
    (
        lambda d: d.update(named_splits={"a": {"val": [], "excluded": []}}),
        "manifest-schema",
        "named_splits.a.excluded: unknown key 'excluded'; did you mean 'exclude'?",
    ),
    (lambda d: case(d).update(case_id=7), "id-type", 'cases[1].case_id: case_id is 7, not a text; quote it: "7"'),
    (lambda d: case(d).update(subject="a\n"), "manifest-schema", "cases[1].subject: expected a text of printable"),
    (lambda d: case(d).update(case_id="../x"), "path-escape", "cases[1].case_id: case_id '../x' would leave"),
    (
        lambda d: case(d).update(image="../x.tif"),
        "path-escape",
        "cases[1].image: '../x.tif' leaves the dataset's folder",
    ),
    (lambda d: case(d).update(image=["a/../../x.tif"]), "path-escape", "cases[1].image[0]: 'a/../../x.tif' leaves"),
    (lambda d: case(d).update(label="/etc/passwd"), "path-escape", "cases[1].label: '/etc/passwd' leaves"),
    (lambda d: case(d).update(label="C:\\x.tif"), "path-escape", "leaves the dataset's folder"),
    (lambda d: case(d).update(label="a\0b"), "path-escape", "leaves the dataset's folder"),
]


@pytest.mark.parametrize(("damage", "code", "text"), SCHEMA, ids=[row[2][:40] for row in SCHEMA])
def test_schema_errors_name_their_place(
    manifest: Manifest, tmp_path: Path, damage: Damage, code: str, text: str
) -> None:
    data = json.loads(dump_manifest(manifest))
    damage(data)
    path = tmp_path / "m.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}: {code} ")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_schema_errors_are_collected(manifest: Manifest) -> None:
    data = json.loads(dump_manifest(manifest))
    data["nmae"] = "x"
    for entry in data["cases"]:
        entry["split"] = "?"
    _, issues = parse_manifest(json.dumps(data).encode())
    assert [issue.record for issue in issues] == ["nmae", *(f"cases[{i}].split" for i in range(3))]


def test_not_an_object() -> None:
    assert [issue.message for issue in parse_manifest(b"[]")[1]] == ["expected a JSON object, got []"]


def test_backslashes_are_read_as_slashes_and_told(manifest: Manifest, tmp_path: Path) -> None:
    data = json.loads(dump_manifest(manifest))
    data["cases"][0]["image"] = "a\\1.tif"
    parsed, issues = parse_manifest(json.dumps(data).encode())
    assert [(issue.code, issue.severity) for issue in issues] == [("backslash-path", "warning")]
    assert parsed is not None
    assert parsed.cases[0].image == ("a/1.tif",)
    (tmp_path / "m.json").write_text(json.dumps(data))
    assert read_manifest(tmp_path / "m.json") == parsed


def test_missing_manifest_is_one_line(tmp_path: Path) -> None:
    message = r"cannot read the manifest .*none.json: no such file or directory; pipeline dataset build"
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path / "none.json")
    with pytest.raises(InputError, match="is a directory"):
        read_manifest(tmp_path)
