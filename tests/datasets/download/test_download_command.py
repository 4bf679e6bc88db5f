"""The command ``dataset download``: its arguments and its output."""

import hashlib
import importlib.util
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline.commands.cli import main
from pipeline.datasets.download.sources import SOURCES, find_source
from pipeline.issues import InputError

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def u373(server):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        opened.writestr("PhC-C2DH-U373/01/t000.tif", b"frame")
    server.files["PhC-C2DH-U373.zip"] = stream.getvalue()
    return hashlib.sha256(stream.getvalue()).hexdigest()


def test_download_says_what_it_did_and_what_comes_next(server, u373, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["dataset", "download", "u373", "--url-base", server.base, "--accept", u373.upper()]
    assert main(command) == 0
    streams = capsys.readouterr()
    root = Path("data/u373/PhC-C2DH-U373")
    assert streams.out.splitlines() == [
        "data/u373: 1 files",
        "  PhC-C2DH-U373.zip, 153 B: accepted by --accept",
        f"    sha256 {u373}",
        "record: data/u373.download.json (copied beside another folder, this command accepts the same bytes only)",
        f"licence: {SOURCES['u373'].licence}; cite as https://celltrackingchallenge.net/2d-datasets/ asks",
        f"next: python -m pipeline dataset build cell_tracking {root} -o u373.json",
        f"then: python -m pipeline dataset check u373.json --dataset_dir {root} --deep",
    ]
    assert streams.err == f"PhC-C2DH-U373.zip: 43.5 MB from {server.url('PhC-C2DH-U373.zip')}\n"
    assert (root / "01" / "t000.tif").read_bytes() == b"frame"

    assert main(command) == 0
    assert capsys.readouterr().out.startswith("data/u373: complete since ")

    (tmp_path / "data_manifests").mkdir()
    (tmp_path / "data_manifests" / "u373.json").touch()
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"next: python -m pipeline dataset check data_manifests/u373.json --dataset_dir {root}"
    )


def test_errors_are_one_line(server, tmp_path, capsys):
    assert main(["dataset", "download", "u373", "-o", str(tmp_path / "x"), "--url-base", server.base]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: cannot download PhC-C2DH-U373.zip: http://127.0.0.1:")
    assert "answered 404 Not Found" in lines[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["lgg", "braintumor"])
def test_sets_behind_a_login_are_explained_and_stop_a_chain_of_commands(tmp_path, capsys, name):
    out = tmp_path / "here"
    assert main(["dataset", "download", name, "-o", str(out)]) == 1
    text = capsys.readouterr().out
    assert text.startswith(
        f"{name} needs a login, so it has to be downloaded by hand:\n1. Log in at https://www.kaggle.com"
    )
    assert f"-p {out} --unzip" in text
    assert "{" not in text
    assert "python -m pipeline dataset" in text.splitlines()[-1]
    assert not out.exists()


def test_list(capsys):
    assert main(["dataset", "download", "--list"]) == 0
    text = capsys.readouterr().out
    for source in SOURCES.values():
        assert f"{source.name}: {source.title}\n" in text
    assert "13.8 GB; CC BY-NC 4.0" in text
    assert "needs a login; prints instructions" in text


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ([], 1, "error: no dataset given; type its name, or --list for all"),
        (["u373", "-o", "."], 1, "error: -o expects the folder to create, got '.'; for example -o u373"),
        (["u373", "-o", ".."], 1, "error: -o expects the folder to create, got '..'; for example -o ../u373"),
        (["u37"], 2, "unknown 'u37'; did you mean 'u373'?"),
        (["u373", "--accept", "12"], 2, "expected 64 hexadecimal digits, got '12'"),
        (["u373", "--url-base", "file:///tmp"], 1, "error: --url-base expects http:// or https://, got 'file:///tmp'"),
    ],
)
def test_wrong_words(capsys, words, code, text):
    if code == 2:
        with pytest.raises(SystemExit) as caught:
            main(["dataset", "download", *words])
        assert caught.value.code == code
    else:
        assert main(["dataset", "download", *words]) == code
    assert text in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    script = (
        "import sys, pipeline.commands.dataset_download as c, pipeline.datasets.download.sources\n"
        "print(sorted({'numpy', 'torch', 'monai', 'tqdm', 'urllib3', 'urllib.request'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))
def test_every_source_is_complete(source):
    assert source.page.startswith(("http://", "https://"))
    assert source.licence
    assert source.layout in {"lgg", "isic", "cell_tracking", "coco", "decathlon", "nnunet", "folders", "dicom"}
    assert bool(source.archives) != bool(source.instructions)
    assert len({archive.file for archive in source.archives}) == len(source.archives)
    for archive in source.archives:
        assert archive.urls
        assert all(url.startswith("https://") for url in archive.urls)
        assert "/" not in archive.file
        assert len(archive.sha256) in (0, 64)
        assert len(archive.md5) in (0, 32)
        assert bool(archive.sha256 or archive.md5) == bool(archive.evidence)
        assert not archive.verified, "nobody has downloaded it yet; say so in the dataset's card when somebody has"
        assert archive.describe_checksum().endswith("(not verified by us)")


def test_an_unknown_source():
    with pytest.raises(InputError, match=r"unknown dataset 'x'; known: isic2018, u373"):
        find_source("x")


def test_hippocampus_is_what_monai_downloads():
    archive = SOURCES["hippocampus"].archives[0]
    package = importlib.util.find_spec("monai")
    # Read, not imported: that takes five seconds.
    text = (Path(package.origin).parent / "apps" / "datasets.py").read_text()
    assert f'"Task04_Hippocampus": "{archive.urls[0]}"' in text
    assert f'"Task04_Hippocampus": "{archive.md5}"' in text
