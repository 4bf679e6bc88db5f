"""Links lead somewhere, and nothing refers to what is not in the project."""

from __future__ import annotations

import re

import pytest

from tests.docs.markdown import ROOT, list_anchors, list_documents, list_linked, list_links, read_text


@pytest.mark.parametrize("document", list_linked())
def test_links_and_pictures_exist(document: str) -> None:
    for link in list_links(read_text(document)):
        path, _, anchor = link.partition("#")
        target = ((ROOT / document).parent / path).resolve() if path else ROOT / document
        assert target.is_relative_to(ROOT), f"{link} leaves the project"
        assert target.exists(), link
        if anchor:
            assert anchor in list_anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("document", list_linked())
def test_no_document_refers_to_a_place_outside_of_the_project(document: str) -> None:
    found = re.findall(r"(?:\.\./shared|(?<![\w.])/work/)\S*", read_text(document))
    assert found == []


def test_every_document_is_reached_from_the_readme() -> None:
    reached, waiting = set(), ["README.md"]
    while waiting:
        document = waiting.pop()
        if document in reached:
            continue
        reached.add(document)
        folder = (ROOT / document).parent
        for link in list_links(read_text(document)):
            target = (folder / link.partition("#")[0]).resolve()
            if target.suffix == ".md":
                waiting.append(str(target.relative_to(ROOT)))
    assert set(list_documents()) <= reached
