"""The command ``bundle new``: what it writes and says, what it refuses, and that nothing half done is left."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

import pipeline.bundle.new as new
from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.kinds import TEMPLATES
from pipeline.bundle.new import create_bundle
from pipeline.bundle.recipe import read_source, read_template
from pipeline.commands import bundle_new
from pipeline.commands.cli import main
from tests.bundle.conftest import BUNDLES, ROOT, build, read_json, write_pictures, write_volumes

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def repo(repository_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: ``bundles/lgg_attunet``, ``my_data`` of grey pictures and its manifest ``my_data.json``."""
    monkeypatch.chdir(repository_copy)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    build(write_pictures(repository_copy / "my_data"), mask_values="0,255")
    return repository_copy


def call(*words: str) -> int:
    return main(["bundle", "new", *words])


def refuse(capsys: Capture, *words: str) -> str:
    """Run the command, which must fail with one line and leave everything as it was."""
    before = sorted(Path().rglob("*"))
    assert call(*words) == 1
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("error: ")
    assert streams.err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before
    return streams.err[len("error: ") : -1]


MINE = ("mine", "--from", "lgg_attunet", "--manifest", "my_data.json", "--dataset_dir", "my_data")


def test_a_bundle_is_made_and_the_next_commands_are_told(repo: Path, capsys: Capture) -> None:
    source = read_json(BUNDLES / "lgg_attunet/configs/metadata.json")
    assert call(*MINE) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"bundles/mine: made from lgg_attunet {source['version']}"
    assert "  channels: 3 (intensity, times 3 slices)" in lines
    assert "  masks: 0 is background, 255 is foreground" in lines
    assert "  cases: each picture is a stack of one slice" in lines
    assert f"manifest: {repo / 'my_data.json'}" in lines
    run = "python -m monai.bundle run --config_file"
    assert lines[-4:] == [
        f"train:    {run} bundles/mine/configs/train.json",
        f"evaluate: {run} \"['bundles/mine/configs/train.json','bundles/mine/configs/evaluate.json']\""
        " --checkpoint output/mine/model.pt",
        "report:   python -m pipeline report output/mine/evaluate",
        f"predict:  {run} bundles/mine/configs/inference.json --checkpoint output/mine/model.pt --overlay true",
    ]
    source = {path.name for path in (BUNDLES / "lgg_attunet/configs").iterdir()}
    files = {str(path.relative_to("bundles/mine")) for path in Path("bundles/mine").rglob("*") if path.is_file()}
    expected = {f"configs/{name}" for name in source - {"origin.json", "postprocessing.json", "manifest.json"}}
    assert files == expected | {"LICENSE", "docs/README.md", "docs/data_license.txt"}
    train = read_json(Path("bundles/mine/configs/train.json"))
    assert train["manifest"] == "$@bundle_root + '/../../my_data.json'"
    assert train["dataset_dir"] == "my_data"
    assert main(["bundle", "list"]) == 0
    assert "mine  " in capsys.readouterr().out


def test_metadata_and_card_say_what_is_known(repo: Path, capsys: Capture) -> None:
    assert call(*MINE, "--labels", "lesion", "--channels", "echo") == 0
    metadata = read_json(Path("bundles/mine/configs/metadata.json"))
    source = read_json(BUNDLES / "lgg_attunet/configs/metadata.json")
    assert metadata["version"] == "0.1.0"
    assert metadata["changelog"] == {"0.1.0": f"First version, made from lgg_attunet {source['version']}"}
    assert metadata["task"] == "Segmentation of lesion"
    assert "my_data (3 train, 3 val cases)" in metadata["description"]
    (image,) = metadata["network_data_format"]["inputs"].values()
    names = {"0": "echo, slice before", "1": "echo", "2": "echo, slice after"}
    assert (image["num_channels"], image["channel_def"]) == (3, names)
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "lesion"}
    # The first layer has 24 filters of 3 x 3 for each channel, of which there are 6 fewer.
    assert metadata["network_parameters"] == source["network_parameters"] - 24 * 9 * 6
    assert not {"phantom", "validation_score"} & set(metadata)
    text = json.dumps(metadata) + Path("bundles/mine/docs/README.md").read_text()
    assert (metadata["authors"], metadata["copyright"]) == ("TODO: your name", "Copyright TODO: your name")
    for word in ("glioma", "FLAIR", "TCGA", "0.848", "patient's", "maintainers"):
        assert word not in text
    card = Path("bundles/mine/docs/README.md").read_text()
    own = set(re.findall("^## .*$", card, re.MULTILINE))
    suite = "\n".join(path.read_text() for path in BUNDLES.glob("*/docs/README.md"))
    assert own <= set(re.findall("^## .*$", suite, re.MULTILINE))
    needed = ("Data", "Preprocessing", "Training", "Performance", "Limits", "Commands", "References", "Licence")
    assert {f"## {name}" for name in needed} <= own
    assert "python -m monai.bundle run --config_file bundles/mine/configs/train.json\n" in card
    assert card.count("not measured yet") == 5
    assert "* `EncodeMaskd` (label): values [0, 255]" in card
    assert "* **Labels**: 0 background, 1 lesion." in card
    assert "* `DenseCRFd`: off; on with `--skip_crf false`\n" in card
    assert "bundles/mine/configs/refine.json']\" --skip_crf false\n" in card
    assert Path("bundles/mine/docs/data_license.txt").read_text().startswith("my_data, not ")


def test_authors(repo: Path) -> None:
    assert call(*MINE, "--author", "A. Turing, G. Hopper") == 0
    metadata = read_json(Path("bundles/mine/configs/metadata.json"))
    assert (metadata["authors"], metadata["copyright"]) == ("A. Turing, G. Hopper", "Copyright A. Turing, G. Hopper")


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_command_knows_the_templates(name: str) -> None:
    assert tuple(TEMPLATES) == bundle_new._TEMPLATES
    assert read_template(name).kind == TEMPLATES[name]


def test_a_bundle_from_a_template(repo: Path, capsys: Capture) -> None:
    data = ("--manifest", "my_data.json", "--dataset_dir", "my_data")
    assert call("mine", "--template", "pictures", *data) == 0
    assert capsys.readouterr().out.startswith("bundles/mine: made from the template pictures\n")
    assert read_json(Path("bundles/mine/configs/train.json"))["network_def"]["in_channels"] == 1
    text = refuse(capsys, "second", "--template", "volumes", *data)
    assert text.endswith(
        "lists single pictures; bundles that fit: lgg_attunet, mine; templates that fit: pictures, stacks"
    )
    with pytest.raises(SystemExit):
        call("second", *data)
    with pytest.raises(SystemExit):
        call("second", "--template", "pictures", "--from", "lgg_attunet", *data)


def test_files_of_a_template_are_the_suites_own() -> None:
    templates = ROOT / "pipeline/bundle/templates"
    assert (templates / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    for path in BUNDLES.glob("*/configs/logging.conf"):
        assert path.read_bytes() == (templates / "logging.conf").read_bytes()


def test_the_manifest_goes_to_the_others(repo: Path, capsys: Capture) -> None:
    (repo / "data_manifests").mkdir()
    assert call(*MINE) == 0
    copied = repo / "data_manifests/mine.json"
    assert copied.read_bytes() == (repo / "my_data.json").read_bytes()
    assert f"manifest: {copied}" in capsys.readouterr().out
    shutil.rmtree("bundles/mine")
    # The same manifest is there already; another one is not overwritten.
    assert call(*MINE) == 0
    shutil.rmtree("bundles/mine")
    copied.write_text("{}")
    capsys.readouterr()
    assert "data_manifests/mine.json exists and is another manifest" in refuse(capsys, *MINE)


def test_another_output_folder_and_a_source_by_its_path(repo: Path, tmp_path: Path, capsys: Capture) -> None:
    source, output = repo / "bundles/lgg_attunet", tmp_path / "far/away"
    words = ["mine", "--from", str(source), "--manifest", "my_data.json", "--output", str(output)]
    assert call(*words) == 0
    lines = capsys.readouterr().out.splitlines()
    train = read_json(output / "mine/configs/train.json")
    assert train["bundle_root"] == "away/mine"
    assert train["manifest"] == str(repo / "my_data.json")
    assert train["dataset_dir"] == "data/mine"
    config = output / "mine/configs/train.json"
    assert f"--config_file {config} --bundle_root {output / 'mine'} --dataset_dir DIR" in lines[-4]
    assert lines[-2] == "report:   python -m pipeline report output/mine/evaluate"
    assert "--input DIR" in lines[-1]
    # The card is read elsewhere.
    card = (output / "mine/docs/README.md").read_text()
    assert str(tmp_path) not in card
    assert "python -m monai.bundle run --config_file away/mine/configs/train.json --dataset_dir DIR\n" in card


def test_commands_are_right_where_they_are_typed(repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(repo.parent)
    there = ["--manifest", "repo/my_data.json", "--dataset_dir", "repo/my_data", "--output", "repo/bundles"]
    assert call("mine", "--from", "repo/bundles/lgg_attunet", *there) == 0
    lines = capsys.readouterr().out.splitlines()
    bundle = "--bundle_root repo/bundles/mine"
    assert lines[-4].endswith(f"--config_file repo/bundles/mine/configs/train.json {bundle} --dataset_dir repo/my_data")
    assert f"/evaluate.json']\" {bundle} --dataset_dir repo/my_data --checkpoint output/mine/" in lines[-3]
    assert f"{bundle} --input repo/my_data/images --checkpoint output/mine/model.pt" in lines[-1]
    # A shell takes them as they are.
    assert call("mine", "--from", "repo/bundles/lgg_attunet", *there[:-1], "my bundles") == 0
    lines = capsys.readouterr().out.splitlines()
    assert shlex.split(lines[-4])[5:] == ["--config_file", "my bundles/mine/configs/train.json"]


@pytest.mark.parametrize("name", ["Mine", "my-bundle", "../mine", "a/b", "1st", "two__lines", "a" * 31, "ä", ".x"])
def test_names_that_no_bundle_can_have(repo: Path, capsys: Capture, name: str) -> None:
    text = refuse(capsys, *((name, *MINE[1:]) if not name.startswith("-") else ()))
    assert f"a bundle cannot have the name {name!r}" in text
    if name == "my-bundle":
        assert text.endswith("for example my_bundle; --output names the folder")


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_nothing_is_overwritten(repo: Path, capsys: Capture, kind: str) -> None:
    target = Path("bundles/mine")
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_text("")
    else:
        target.symlink_to("nowhere")
    assert "bundles/mine exists and is not overwritten; choose another name" in refuse(capsys, *MINE)


def test_unknown_sources_name_the_nearest(repo: Path, capsys: Capture) -> None:
    words = ["--manifest", "my_data.json"]
    assert refuse(capsys, "mine", "--from", "lgg_attnet", *words) == (
        "--from: unknown bundle 'lgg_attnet'; did you mean 'lgg_attunet'?"
    )
    assert refuse(capsys, "mine", "--from", "xyz", *words).endswith("unknown bundle 'xyz'; known: lgg_attunet")
    assert "--from: ./xyz is not a bundle" in refuse(capsys, "mine", "--from", "./xyz", *words)


def test_no_bundles_here(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    text = refuse(capsys, "mine", "--from", "lgg_attunet", "--manifest", str(repo / "my_data.json"))
    assert text.startswith("--from: there is no bundle in bundles; type the command in the folder that holds bundles/")


def test_a_source_that_is_not_whole(repo: Path, capsys: Capture) -> None:
    configs = Path("bundles/lgg_attunet/configs")
    (configs / "evaluate.json").rename("evaluate.json")
    assert "has no configs/evaluate.json, so no bundle can be made from it" in refuse(capsys, *MINE)
    shutil.move("evaluate.json", configs)
    (configs / "train.json").write_text("{")
    assert "train.json: line 1 column 2" in refuse(capsys, *MINE)


def test_where_nobody_can_be_asked_the_option_is_named(repo: Path, capsys: Capture) -> None:
    text = refuse(capsys, *MINE[:3])
    assert text == "the manifest of your dataset is required when not run interactively; pass --manifest FILE"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_it_is_asked_for(repo: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("my_data.json\nmy_data\nlesion\nA. Turing\n"))
    assert call(*MINE[:3]) == 0
    streams = capsys.readouterr()
    assert streams.err == (
        "manifest of your dataset: folder that the manifest's paths are relative to: names of the labels from 1 on"
        " [foreground]: authors, for the metadata: "
    )
    metadata = read_json(Path("bundles/mine/configs/metadata.json"))
    assert (metadata["task"], metadata["authors"]) == ("Segmentation of lesion", "A. Turing")
    assert read_json(Path("bundles/mine/configs/train.json"))["dataset_dir"] == "my_data"
    # An empty answer takes what the manifest says; what was told is not asked for.
    monkeypatch.setattr(sys, "stdin", Terminal("\n"))
    assert call("second", *MINE[1:]) == 0
    assert read_json(Path("bundles/second/configs/metadata.json"))["task"] == "Segmentation of foreground"
    monkeypatch.setattr(sys, "stdin", Terminal("\n"))
    capsys.readouterr()
    assert call("third", *MINE[1:3]) == 1
    assert capsys.readouterr().err.endswith("error: the manifest of your dataset is required; pass --manifest FILE\n")


def test_data_of_another_kind_name_what_fits(repo: Path, capsys: Capture) -> None:
    shutil.copytree(BUNDLES / "hippocampus_segresnet", "bundles/hippocampus_segresnet")
    build(write_volumes(repo / "scans"), mask_values="0,1")
    assert refuse(capsys, "mine", "--from", "lgg_attunet", "--manifest", "scans.json", "--dataset_dir", "scans") == (
        "lgg_attunet is for stacks of slices or single pictures, but"
        f" {repo / 'scans.json'} lists volumes (NIfTI, MetaImage, NRRD); bundles that fit: hippocampus_segresnet;"
        " templates that fit: volumes"
    )
    objects = build(repo / "my_data", mask_values="instances")
    text = refuse(capsys, "mine", "--from", "lgg_attunet", "--manifest", str(objects), "--dataset_dir", "my_data")
    assert text.endswith("lists single pictures with numbered objects (instances); templates that fit: objects")


@pytest.mark.parametrize("text", ["a,", ",", "a,\x07b"])
def test_names_with_nothing_in_them(repo: Path, capsys: Capture, text: str) -> None:
    assert "has an empty name" in refuse(capsys, *MINE, "--labels", text)
    assert "has an empty name" in refuse(capsys, *MINE, "--channels", text)


def test_folders_that_are_none(repo: Path, capsys: Capture) -> None:
    Path("afile").touch()
    assert refuse(capsys, *MINE, "--output", "afile").startswith("afile is a file, expected a folder of bundles")
    Path("line\nbreak").mkdir()
    assert "whose name and path can be printed" in refuse(capsys, *MINE, "--output", "line\nbreak")
    words = ("mine", "--from", "my_data", *MINE[3:])
    assert refuse(capsys, *words).startswith("--from: my_data is not a bundle; expected a folder with configs/ in it")


def test_a_path_with_the_word_import_is_no_statement(repo: Path) -> None:
    shutil.copytree("my_data", "important/my_data")
    shutil.copy("my_data.json", "important")
    words = ("--manifest", "important/my_data.json", "--dataset_dir", "important/my_data")
    assert call("mine", "--template", "pictures", *words) == 0
    parser = ConfigParser()
    parser.read_config("bundles/mine/configs/train.json")
    assert Path(parser.get_parsed_content("manifest")).samefile("important/my_data.json")


def test_numbers_that_the_manifest_contradicts(repo: Path, capsys: Capture) -> None:
    assert "--channels: the images have 1" in refuse(capsys, *MINE, "--channels", "3")
    assert "--labels: expected 1 different names" in refuse(capsys, *MINE, "--labels", "a,b,c")


def edit_source(change: dict[str, object]) -> None:
    path = Path("bundles/lgg_attunet/configs/train.json")
    path.write_text(json.dumps({**read_json(path), **change}))


def test_what_cannot_be_built_is_refused_before_anything_is_written(repo: Path, capsys: Capture) -> None:
    edit_source({"network_def": {"_target_": "BasicUNet", "in_channels": 9, "out_channels": 1, "featurs": 3}})
    text = refuse(capsys, *MINE)
    assert text.startswith("lgg_attunet cannot be made to fit: network_def in train.json: ")
    assert "featurs" in text
    assert text.endswith("; nothing was written")
    edit_source({"network_def": {"_target_": "BasicUNet", "in_channels": 9, "out_channels": 1}})
    assert "network_def in train.json: " in refuse(capsys, *MINE)
    edit_source({"network_def": {"_target_": "BasicUNet", "in_channels": 9}})
    assert "network_def has no out_channels, so it cannot be changed" in refuse(capsys, *MINE)


def test_a_failure_while_writing_leaves_nothing(
    grey: UserDataset, repository_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = repository_copy / "bundles/lgg_attunet"
    (repository_copy / "data_manifests").mkdir()
    before = sorted(tmp_path.rglob("*"))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for module, name in ((new.Path, "write_bytes"), (new.Path, "rename")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            with pytest.raises(OSError, match="No space left"):
                create_bundle("mine", read_source(source), grey, repository_copy / "bundles", rehearse=False)
            with pytest.raises(OSError, match="No space left"):
                create_bundle("mine", read_source(source), grey, tmp_path / "new/bundles", rehearse=False)
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        assert sorted(tmp_path.rglob("*")) == before


def test_interrupted(grey: UserDataset, repository_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(repository_copy.rglob("*"))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(new, "_copy_manifest", interrupt)
    source = read_source(repository_copy / "bundles/lgg_attunet")
    with pytest.raises(KeyboardInterrupt):
        create_bundle("mine", source, grey, repository_copy / "bundles", rehearse=False)
    assert sorted(repository_copy.rglob("*")) == before
