from __future__ import annotations

from collections.abc import Callable

from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.draft import Draft
from pipeline.bundle.edits import edit_remarks


def test_remarks_about_the_sources_data_are_dropped(make_draft: Callable[..., Draft]) -> None:
    said = {
        "These are one piece": False,
        "One crop in three is centred on tumour": False,
        "FLAIR of the middle slice": False,
        "The data set fills what is missing": False,
        "Z-score of every patient's own head": False,
        "The network halves the grid four times": True,
        "Whole slices, eight at a time": True,
    }
    train = {"_desc_": "Knobs of the tumour bundle", "steps": [{"_target_": "X", "_desc_": text} for text in said]}
    draft = make_draft(train)
    edit_remarks(draft)
    assert [step.get("_desc_") for step in draft.train["steps"]] == [
        text if kept else None for text, kept in said.items()
    ]
    assert draft.train["_desc_"] == train["_desc_"]


def test_inference_and_the_small_network_are_described_anew(
    make_draft: Callable[..., Draft], volumes: UserDataset
) -> None:
    files = {"inference.json": {"_desc_": "Above: a patient"}, "phantom.json": {"_desc_": "the synthetic brain"}}
    draft = make_draft({}, volumes, shape="volumes", **files)
    edit_remarks(draft)
    assert "a NIfTI file, a DICOM series' folder" in draft.configs.files["inference.json"]["_desc_"]
    assert "brain" not in draft.configs.files["phantom.json"]["_desc_"]
