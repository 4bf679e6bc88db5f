"""Rules that turn categories into labels."""

import json

import pytest

from pipeline.datasets.coco import parse_annotations
from pipeline.datasets.coco.annotations import CocoCategory
from pipeline.datasets.coco.labels import join_categories, map_categories
from pipeline.issues import InputError

# As in the Kaggle export: names that are numbers, and the project's name as a category of its own.
TABLE = {0: CocoCategory("Tumor", "none"), 1: CocoCategory("0", "Tumor"), 2: CocoCategory("1", "Tumor")}
USED = {1: 51, 2: 49}


@pytest.mark.parametrize(
    ("rule", "labels", "names"),
    [
        ("merge", {0: 1, 1: 1, 2: 1}, {0: "background", 1: "Tumor"}),
        ("keep", {1: 1, 2: 2}, {0: "background", 1: "0", 2: "1"}),
        ("1=2,2=1", {1: 2, 2: 1}, {0: "background", 1: "1", 2: "0"}),
        ("1=1, 2 = 1", {1: 1, 2: 1}, {0: "background", 1: "0+1"}),
        ("1=0,2=1", {1: 0, 2: 1}, {0: "background", 1: "1"}),
        ("Tumor=1,1=1,2=2", {0: 1, 1: 1, 2: 2}, {0: "background", 1: "Tumor+0", 2: "1"}),
    ],
)
def test_rules(rule, labels, names):
    assert map_categories(rule, TABLE, USED) == (labels, names)


def test_names_of_several_categories():
    table = {4: CocoCategory("a=b"), 7: CocoCategory("c"), 9: CocoCategory("c")}
    assert map_categories("a=b=1,c=2", table, {4: 1, 7: 1, 9: 1})[0] == {4: 1, 7: 2, 9: 2}
    assert map_categories("keep", table, {4: 1, 7: 1, 9: 1})[1] == {0: "background", 1: "a=b", 2: "c (2)", 3: "c (3)"}
    assert map_categories("merge", table, {4: 1, 7: 1})[1] == {0: "background", 1: "foreground"}
    assert map_categories("merge", table, {7: 1, 9: 1})[1] == {0: "background", 1: "c"}


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("", "categories must be merge, keep or CATEGORY=LABEL"),
        ("all", "cannot read 'all' in 'all'"),
        ("1=1,2=x", "cannot read '2=x'"),
        ("1=1", "does not contain 2 ('1'), 49 annotations; add 2=0 to leave it out"),
        ("1=1,2=1,glioma=1", "no category 'glioma'; known: 0 ('Tumor'), 1 ('0'), 2 ('1')"),
        ("1=1,2=3", "labels must be 1, 2, ... without a gap (0 leaves a category out), '1=1,2=3' has [1, 3]"),
        ("1=0,2=0", "has []"),
        ("1=1,2=1,1=2", "gives 1 ('0') two labels"),
    ],
)
def test_rules_that_cannot_be_followed(rule, text):
    with pytest.raises(InputError) as error:
        map_categories(rule, TABLE, USED)
    assert text in str(error.value)


def test_more_categories_than_a_mask_holds():
    table = {number: CocoCategory(f"c{number}") for number in range(1, 257)}
    used = dict.fromkeys(range(1, 256), 1)
    assert max(map_categories("keep", table, used)[0].values()) == 255
    with pytest.raises(InputError, match=r"categories keep: 256 are in use, a mask holds 255 labels; merge makes one"):
        map_categories("keep", table, {**used, 256: 1})


def test_files_must_agree():
    def parse(name, *categories):
        rows = [{"id": number, "name": text} for number, text in categories]
        return parse_annotations(json.dumps({"images": [], "annotations": [], "categories": rows}).encode(), name)

    assert list(join_categories([parse("a", (2, "y"), (1, "x")), parse("b", (1, "x"), (3, "z"))])) == [1, 2, 3]
    with pytest.raises(InputError, match=r"category 1 is 'x' in a and 'y' in b; give both files the same categories"):
        join_categories([parse("a", (1, "x")), parse("b", (1, "y"))])
