"""Patterns of paths: which files match, and what their wildcards stand for."""

import pytest

from pipeline.datasets.layouts.patterns import PathPattern


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.png", "a/b.png", None),
        ("**/*.png", "a/b.png", (("a",), "b")),
        ("**/*.png", "b.png", ((), "b")),
        ("a/*", "a/b.nii.gz", ((), "b")),
        ("a/*.*", "a/b.nii.gz", ((), "b")),
        ("a/*.nii.gz", "a/b.nii", None),
        ("a?/x*", "a1/x7.png", (("a1",), "7")),
        ("a [1]/*.png", "a [1]/b.png", ((), "b")),
        ("A/*.png", "a/b.png", None),
        ("a\\*.png", "a/b.png", ((), "b")),
        ("a/p*_*.png", "a/p1_11.png", ((), "\0".join(("1", "11")))),
        ("a/p*_*.png", "a/p11_1.png", ((), "\0".join(("11", "1")))),
        ("a/*_lesion*.png", "a/7_lesion.png", ((), "7")),
        ("a/*lesion*.png", "a/lesion7.png", ((), "7")),
        ("a/img??.png", "a/img12.png", ((), "12")),
        ("a/?*-?.png", "a/12-3.png", ((), "\0".join(("12", "3")))),
    ],
)
def test_patterns(pattern: str, path: str, expected: tuple[tuple[str, ...], str] | None) -> None:
    assert PathPattern(pattern, "image").match(path) == expected


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("{subject}_*", "x/p1_2_3.png", "p1"),
        ("{subject}_slice*", "x/p1_2_slice3.png", "p1_2"),
        ("{subject}/*", "x/p1/7.png", "p1"),
        ("{subject}/**/*", "p1/a/b/7.png", "p1"),
        ("{subject}", "x/p1.png", "p1"),
        ("{subject}_*.jpg", "x/p1_2.png", None),
        ("{subject}_*", "x/p1.png", None),
    ],
)
def test_subjects(pattern: str, path: str, expected: str | None) -> None:
    assert PathPattern(pattern, "subject").find_subject(path) == expected
