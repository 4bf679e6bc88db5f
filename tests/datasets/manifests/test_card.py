"""Cards of datasets that have no committed manifest, compared with what was built."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pipeline.commands.cli import build_parser, main
from pipeline.datasets.layouts import LAYOUTS
from pipeline.datasets.manifests.card import compare_with_card
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.issues import InputError

CARDS = sorted((Path(__file__).resolve().parents[3] / "data_manifests").glob("*.yaml"))
CARD = """
layout: lgg
labels: {0: background, 1: tumour}
expected: {train: {cases: 3}}
"""


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "card.yaml"
    path.write_text(CARD)
    return path


def test_a_dataset_that_agrees(card: Path, manifest: Manifest) -> None:
    assert compare_with_card(manifest, card) == []


def test_every_difference_is_told(card: Path, manifest: Manifest) -> None:
    cases = (*manifest.cases[:1], replace(manifest.cases[1], split="test"))
    other = replace(manifest, cases=cases, layout="coco", labels={0: "background"})
    assert [issue.message for issue in compare_with_card(other, card)] == [
        "the card is of layout 'lgg', the manifest of 'coco'",
        "the card has the labels 0, 1, the manifest 0",
        "1 train cases, the card says 3",
        "1 test cases, the card says 0",
    ]
    assert {(issue.code, issue.severity) for issue in compare_with_card(other, card)} == {("card-mismatch", "warning")}


@pytest.mark.parametrize(
    ("text", "message"), [("[1]", "is not a dataset card"), ("a: [", "cannot read the dataset card")]
)
def test_what_is_no_card(card: Path, manifest: Manifest, text: str, message: str) -> None:
    card.write_text(text)
    with pytest.raises(InputError, match=message):
        compare_with_card(manifest, card)
    with pytest.raises(InputError, match="no such file"):
        compare_with_card(manifest, card.with_name("none.yaml"))


def test_the_command_tells_and_builds(card: Path, kaggle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card.write_text(CARD.replace("3", "110"))
    out = card.with_name("m.json")
    assert main(["dataset", "build", "lgg", str(kaggle), "-o", str(out), "--card", str(card)]) == 0
    assert "note: card-mismatch" in (told := capsys.readouterr().err)
    assert "3 train cases, the card says 110" in told
    assert out.exists()


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_committed_cards_are_complete_and_their_commands_parse(path: Path) -> None:
    card = yaml.safe_load(path.read_text(encoding="utf-8"))
    keys = {"name", "layout", "task", "licence", "source", "download", "citations", "labels", "expected", "build"}
    assert keys | {"split", "notes", "checksums", "check"} <= set(card)
    assert card["name"] == path.stem
    assert card["layout"] in LAYOUTS
    for key in ("build", "check"):
        words = card[key].removeprefix("python -m pipeline ").split()
        _, extras = build_parser().parse_known_args(words)
        assert extras == []


def test_there_are_cards() -> None:
    assert {path.stem for path in CARDS} >= {"isic2018", "braintumor"}
