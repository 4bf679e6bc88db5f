"""Rows of an annotation file: what is wrong is a finding with its place, and images with it are not drawn."""

import copy
import json
import os

import pytest

from pipeline.datasets.coco import AnnotationError, parse_annotations, rasterise, read_annotations
from pipeline.issues import InputError

SQUARE = [[1, 1, 5, 1, 5, 5, 1, 5]]


def make_file(*, image=None, annotation=None, **keys):
    data = {
        "images": [
            {"id": 1, "file_name": "a.png", "height": 20, "width": 30, **(image or {})},
            {"id": 2, "file_name": "b.png", "height": 20, "width": 30},
        ],
        "categories": [{"id": 1, "name": "tumour"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": SQUARE, **(annotation or {})},
            {"id": 2, "image_id": 2, "category_id": 1, "segmentation": SQUARE},
        ],
        **keys,
    }
    return copy.deepcopy(data)


def parse(data):
    content = data if isinstance(data, bytes) else json.dumps(data).encode()
    return parse_annotations(content, "a.json")


def lines(file):
    return [issue.one_line() for issue in file.issues]


def test_a_good_file_has_no_findings():
    file = parse(make_file(info={"year": 2023}, licenses=[{"id": 1, "name": "CC BY 4.0", "url": "x"}]))
    assert lines(file) == []
    assert file.licences == ("CC BY 4.0",)
    assert file.images["1"].file_name == "a.png"
    assert file.annotations["2"][0].polygons == (SQUARE[0],)
    assert file.used_categories() == {1: 2}


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"image": {"id": None}}, "id-type", "images[0]]: image id is None, expected an integer or a text"),
        ({"image": {"id": 1.5}}, "id-type", "image id is 1.5"),
        ({"image": {"id": True}}, "id-type", "image id is True"),
        ({"image": {"id": "a/b"}}, "id-type", "image id is 'a/b'"),
        ({"image": {"id": 2}}, "duplicate-id", "images[1]]: image id 2 occurs twice"),
        ({"image": {"id": "2"}}, "duplicate-id", "image id 2 occurs twice"),
        ({"image": {"file_name": "b.png"}}, "duplicate-path", "file_name 'b.png' occurs twice"),
        ({"image": {"file_name": "./b.png"}}, "duplicate-path", "file_name 'b.png' occurs twice"),
        ({"image": {"file_name": ".\\x\\..\\b.png"}}, "duplicate-path", "occurs twice"),
        ({"image": {"file_name": "C:\\"}}, "manifest-schema", "expected a path"),
        ({"image": {"file_name": ".."}}, "manifest-schema", "expected a path"),
        ({"image": {"file_name": ""}}, "manifest-schema", "file_name is '', expected a path"),
        ({"image": {"file_name": "a\u0000.png"}}, "manifest-schema", "expected a path"),
        ({"image": {"file_name": "\ud800.png"}}, "manifest-schema", "expected a path"),
        ({"image": {"file_name": 7}}, "manifest-schema", "file_name is 7"),
        ({"image": {"height": 0}}, "manifest-schema", "height is 0, expected an integer from 1"),
        ({"image": {"width": "30"}}, "manifest-schema", "width is '30'"),
        ({"image": {"width": 30.0}}, "manifest-schema", "width is 30.0"),
        ({"image": {"height": 10**6, "width": 10**6}}, "too-large", "1000000 x 1000000 pixels; the limit is"),
        ({"annotation": {"id": {}}}, "id-type", "annotations[0]]: annotation id is {}"),
        ({"annotation": {"id": 2}}, "duplicate-id", "annotations[1]]: annotation id 2 occurs twice"),
        ({"annotation": {"image_id": 99}}, "coco-reference", "image_id 99 is not an image of this file"),
        (
            {"annotation": {"category_id": 9}},
            "coco-reference",
            "category_id 9 is not a category of this file; known: [1]",
        ),
        ({"annotation": {"category_id": "1"}}, "coco-reference", "category_id '1' is not a category"),
        ({"annotation": {"category_id": []}}, "coco-reference", "category_id [] is not a category"),
        ({"annotation": {"iscrowd": 2}}, "manifest-schema", "iscrowd is 2, expected 0 or 1"),
        ({"annotation": {"iscrowd": True}}, "manifest-schema", "iscrowd is True"),
        ({"annotation": {"iscrowd": []}}, "manifest-schema", "iscrowd is []"),
        ({"annotation": {"bbox": [1, 2, float("nan"), 4]}}, "coco-coordinate", "bbox is [1, 2, nan, 4]"),
        ({"annotation": {"bbox": "1 2 3 4"}}, "manifest-schema", "bbox is '1 2 3 4'"),
        ({"annotation": {"segmentation": []}}, "degenerate-polygon", "annotations[0]]: no outline at all"),
        ({"categories": [{"id": 1, "name": "a"}] * 2}, "duplicate-id", "categories[1]]: category id 1 occurs twice"),
        ({"categories": [{"id": "1", "name": "a"}]}, "id-type", "category id is '1', expected an integer"),
        ({"categories": [{"id": 1, "name": None}]}, "manifest-schema", "name is None"),
        ({"categories": {}}, "manifest-schema", "categories]: expected a list, got {}"),
        ({"images": None}, "manifest-schema", "images]: expected a list, got None"),
        ({"annotations": [7]}, "manifest-schema", "annotations[0]]: expected a JSON object, got 7"),
        ({"info": float("nan")}, "manifest-syntax", "line 1 column"),
    ],
)
def test_bad_rows(change, code, text):
    file = parse(make_file(**change))
    found = [issue for issue in file.issues if issue.code == code and issue.severity == "error"]
    assert found, lines(file)
    assert text in found[0].one_line()


@pytest.mark.parametrize("table", ["images", "annotations", "categories"])
def test_each_required_key_is_missed(table):
    required = {"images": 4, "annotations": 4, "categories": 2}
    keys = list(make_file()[table][0])
    assert len(keys) == required[table]
    for key in keys:
        data = make_file()
        del data[table][0][key]
        assert f"manifest-schema a.json [{table}[0]]: the key '{key}' is missing" in "\n".join(lines(parse(data)))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "line 1 column 1: Expecting value"),
        (b'{"images": [],\n "images": []}', "line 2 column 2: duplicate key 'images'"),
        (b'{"images": [1, ]}', "line 1 column"),
        (b"\xff\xfe\x00", "byte 0 is not UTF-8"),
        (b"[" * 100_000, "RecursionError"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not usable JSON"),
        (b"<!DOCTYPE html>", "line 1 column 1"),
    ],
)
def test_what_is_no_json(content, text):
    file = parse(content)
    assert [issue.code for issue in file.issues] == ["manifest-syntax"]
    assert text in file.issues[0].message
    with pytest.raises(AnnotationError, match="manifest-syntax"):
        rasterise(file, "1", {1: 1})


@pytest.mark.parametrize("content", [b"[]", b"null", b"7", b'"x"'])
def test_what_is_no_object(content):
    assert "expected a JSON object with images and annotations" in parse(content).issues[0].message


def test_byte_order_mark_and_line_ends_are_fine():
    content = b"\xef\xbb\xbf" + json.dumps(make_file(), indent=1).replace("\n", "\r\n").encode()
    assert lines(parse(content)) == []


def test_backslashes_are_read_as_slashes_with_a_warning():
    file = parse(make_file(image={"file_name": "sub\\a.png"}))
    assert file.images["1"].file_name == "sub/a.png"
    assert [(issue.code, issue.severity) for issue in file.issues] == [("backslash-path", "warning")]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("../a.png", "a.png"),
        ("x/../../a.png", "a.png"),
        ("..\\JPEGImages\\a.png", "JPEGImages/a.png"),
        ("/etc/passwd", "etc/passwd"),
        ("C:\\Users\\me\\a.png", "Users/me/a.png"),
        ("C:a.png", "a.png"),
        ("\\\\server\\share\\x\\a.png", "x/a.png"),
    ],
)
def test_a_path_of_another_computer_is_cut_to_its_inside(name, read):
    file = parse(make_file(image={"file_name": name}))
    image = file.images["1"]
    assert (image.file_name, image.is_foreign) == (read, True)
    found = [issue for issue in file.issues if issue.code == "path-escape"]
    assert [issue.severity for issue in found] == ["warning"]
    assert "leaves the folder of images; its end is looked for" in found[0].message


def test_an_image_with_one_bad_annotation_is_not_drawn_and_others_are():
    data = make_file()
    data["annotations"].append({"id": 3, "image_id": 1, "category_id": 1, "segmentation": [[1, 2, 3]]})
    file = parse(data)
    with pytest.raises(AnnotationError, match=r"degenerate-polygon a\.json \[annotations\[2\]\]: odd number"):
        rasterise(file, "1", {1: 1})
    assert rasterise(file, "2", {1: 1}).sum() == 16
    assert file.unannotated() == []


def test_skipped_and_clipped_outlines_are_counted_once_a_file():
    data = make_file(annotation={"segmentation": [SQUARE[0], [1, 2, 3], [], [-5, 3, 9, 3, 9, 9]]})
    assert lines(parse(data)) == [
        "warning degenerate-polygon a.json: outlines that are not polygons are left out: 2",
        "warning coco-bounds a.json: outlines that extend beyond their image are cut at its border: 1",
    ]


def test_a_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    from pipeline.datasets.coco import annotation_file

    count = []
    original = annotation_file.parse_annotations
    monkeypatch.setattr(annotation_file, "parse_annotations", lambda *args: count.append(1) or original(*args))
    path = tmp_path / "a.json"
    path.write_text(json.dumps(make_file()))
    assert read_annotations(path) is read_annotations(str(path))
    assert len(count) == 1
    path.write_text(json.dumps(make_file(image={"file_name": "other.png"})))
    assert read_annotations(path).images["1"].file_name == "other.png"


def test_what_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"cannot read the annotations .*none\.json: No such file"):
        read_annotations(tmp_path / "none.json")
    with pytest.raises(InputError, match="Is a directory"):
        read_annotations(tmp_path)
    path = tmp_path / "a.json"
    path.write_text("{}")
    os.truncate(path, 2 << 30)  # sparse
    with pytest.raises(InputError, match=r"too-large .*: 2147483648 bytes of annotations; the limit is 1073741824"):
        read_annotations(path)
