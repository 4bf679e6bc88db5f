"""Every form of a place is read as it is meant; what is not one says in one line what to type."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.bundle.sharing.place import FolderPlace, HubPlace, WebPlace, read_place
from pipeline.commands.cli import main
from pipeline.issues import InputError

DIGEST = "aB" * 32
COMMIT = "1f" * 20


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("hf://lab/lgg", HubPlace("lab/lgg")),
        ("hf://lab/lgg/", HubPlace("lab/lgg")),
        ("hf://lab/lgg@v1.0", HubPlace("lab/lgg", "", "v1.0")),
        (f"hf://lab/lgg/a.zip@{COMMIT}", HubPlace("lab/lgg", "a.zip", COMMIT)),
        (f"hf://lab/lgg@{COMMIT}/sub/a b.zip", HubPlace("lab/lgg", "sub/a b.zip", COMMIT)),  # as huggingface_hub says
        ("https://lab.org/a.zip?v=1", WebPlace("https://lab.org/a.zip?v=1")),
        ("file:///mnt/share/a%20b.zip", FolderPlace(Path("/mnt/share/a b.zip"))),
        ("file://localhost/mnt/a.zip", FolderPlace(Path("/mnt/a.zip"))),
        ("share/a#1.zip", FolderPlace(Path("share/a#1.zip"))),
        (".", FolderPlace(Path())),
    ],
)
def test_places(text: str, place: object) -> None:
    assert read_place(text) == (place, "")
    assert read_place(f"{text}#sha256={DIGEST}") == (place, DIGEST.lower())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://lab.org/a.zip", "http is readable and changeable on the way; expected https"),
        ("http://127.0.0.1/a.zip", "expected https"),
        ("https:///a.zip", "is not a web address of a file"),
        ("https://lab.org/a.zip#md5=1", "is not a web address of a file"),
        ("https://me:secret@lab.org/a.zip", "leave the user name and password out"),
        ("ftp://lab.org/a.zip", "unknown scheme; expected hf://OWNER"),
        ("s3://lab/a.zip", "unknown scheme"),
        ("file://server/share/a.zip", "mount the share"),
        ("hf://lgg", "is not a place; expected hf://OWNER/REPOSITORY"),
        ("hf://lab/lgg@v1/a.zip@v2", "is not a place"),
        ("hf://lab/lgg/a.pt", "a.pt is not the name of a zip file"),
        ("hf://lab/lgg/../a.zip", "is not the name of a zip file"),
        (f"a.zip#sha256={DIGEST[1:]}", "expected 64 hexadecimal digits"),
    ],
)
def test_what_is_not_a_place_is_one_line(text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError) as caught:
        read_place(text)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
    for command in (["pull", text, "new"], ["push", "a.zip", text]):
        with pytest.raises(SystemExit) as stop:
            main(["bundle", *command])
        assert stop.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
