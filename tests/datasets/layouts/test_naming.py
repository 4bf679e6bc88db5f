"""Conventions that several layouts share."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.layouts.listing import Listing
from pipeline.datasets.layouts.naming import count_channels, note_unlabelled, note_unpaired, require_choice
from pipeline.issues import InputError


def test_channels_of_the_first_image_on_disk(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "b.png")
    (tmp_path / "broken.png").write_text("no image")
    listing = Listing(tmp_path, files=("b.png", "broken.png", "gone.png"), absent=("a.png",))
    assert count_channels(listing, ["a.png", "b.png"]) == 3
    assert count_channels(listing, ["broken.png", "b.png"]) == 0
    assert (
        count_channels(listing, ["gone.png"]) == count_channels(listing, ["a.png"]) == count_channels(listing, []) == 0
    )


def test_unpaired_files_are_counted_or_refused() -> None:
    listing = Listing(Path("data"), files=())
    notes = note_unpaired(listing, ["b.png", "a.png"], ["x.png"], "drop", "hint")
    assert [note.message for note in notes] == [
        "2 images have no mask, for example a.png; left out",
        "1 mask has no image: x.png; left out",
    ]
    with pytest.raises(InputError, match=r"^data: 1 mask has no image: x\.png; hint$"):
        note_unpaired(listing, [], ["x.png"], "refuse", "hint")
    assert note_unpaired(listing, [], [], "refuse", "hint") == []


def test_splits_without_any_mask() -> None:
    notes = note_unlabelled(["train", "test", "test"], {"train"})
    assert [note.message for note in notes] == ["none of the 2 images of test has a mask; they are cases without label"]


def test_choices() -> None:
    require_choice("unpaired", "drop", ("refuse", "drop"))
    with pytest.raises(InputError, match="--unpaired must be one of refuse, drop, got 'keep'"):
        require_choice("unpaired", "keep", ("refuse", "drop"))
