"""The command ``dataset check``: its options, outputs and exit codes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.commands.cli import main
from pipeline.datasets import Manifest, read_manifest, write_manifest
from pipeline.datasets.files import take_state


@pytest.fixture
def path(manifest: Manifest, tmp_path: Path) -> Path:
    return write_manifest(manifest, tmp_path / "m.json")


@pytest.fixture
def words(path: Path, kaggle: Path) -> list[str]:
    return ["dataset", "check", str(path), "--dataset_dir", str(kaggle)]


def test_quiet_prints_findings_only(
    words: list[str], kaggle: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    file = manifest.cases[0].image[0]
    (kaggle / file).unlink()
    assert main([*words, "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert out == f"error missing-file (1)\n  {file} [{manifest.cases[0].case_id}]: the file does not exist\n"
    assert err == ""


def test_checksums_are_added_once_nothing_is_wrong(
    words: list[str], path: Path, kaggle: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    first = manifest.cases[0]
    kept = {first.image[0]: first.sha256[first.image[0]]}
    bare = (replace(first, sha256=kept), *(replace(case, sha256={}) for case in manifest.cases[1:]))
    write_manifest(replace(manifest, cases=bare), path)
    assert main(words) == 0
    assert "17 of 18 files have no sha256" in capsys.readouterr().out
    assert read_manifest(path).cases == bare
    assert main([*words, "--write-checksums"]) == 0
    assert f"{path}: 17 sha256 added" in capsys.readouterr().err
    assert read_manifest(path) == manifest
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_no_checksum_vouches_for_what_is_wrong(
    words: list[str], path: Path, kaggle: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifest(replace(manifest, cases=tuple(replace(case, sha256={}) for case in manifest.cases)), path)
    before = path.read_bytes()
    (kaggle / manifest.cases[1].image[0]).write_bytes(b"II*\0")
    assert main([*words, "--write-checksums"]) == 1
    assert "no sha256 added, because there are errors" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize("option", ["--quick", "--cached"])
def test_checksums_need_files_to_be_read(words: list[str], option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*words, "--write-checksums", option])
    assert caught.value.code == 2
    assert f"{option} does not read the files" in capsys.readouterr().err


def test_unknown_patients_are_not_counted_as_known(
    words: list[str], path: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("", "n/a", "A")
    cases = tuple(replace(case, subject=name) for case, name in zip(manifest.cases, names, strict=True))
    write_manifest(replace(manifest, cases=cases), path)
    assert main([*words, "--quick"]) == 0
    assert "  train: 3 cases, 1 subject and 2 cases of unknown subjects, 18 files" in capsys.readouterr().out
    write_manifest(replace(manifest, cases=tuple(replace(case, subject="") for case in cases)), path)
    assert main([*words, "--quick"]) == 0
    assert "  train: 3 cases, subjects unknown, 18 files" in capsys.readouterr().out


def test_html(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new folder" / "report.html"
    assert main([*words, "--deep", "--html", str(target)]) == 0
    assert target.read_text().lstrip().lower().startswith("<!doctype html>")
    assert "0 errors" in capsys.readouterr().out


def test_html_of_a_broken_manifest(words: list[str], path: Path, tmp_path: Path) -> None:
    path.write_text("{,}")
    target = tmp_path / "report.html"
    assert main([*words, "--html", str(target)]) == 1
    assert "manifest-syntax" in target.read_text()


def test_options_reach_the_checks(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.datasets.checks import integrity

    seen = []
    original = integrity.check_manifest

    def record(*args: object, **options: object) -> integrity.Report:
        seen.append(options)
        return original(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(integrity, "check_manifest", record)
    extra = ["--roi-size", "96", "80", "64", "--divisible-by", "16", "--require-patient", "--no-near", "--jobs", "3"]
    main([*words, *extra, "--max-pixels", "178956971"])
    main(words)
    options = seen[0]["options"]
    assert (options.roi_size, options.divisible_by) == ((96, 80, 64), 16)  # type: ignore[attr-defined]
    assert (options.require_patient, options.search_near) == (True, False)  # type: ignore[attr-defined]
    assert options.max_pixels == 178956971  # type: ignore[attr-defined]
    assert seen[0]["jobs"] == 3
    assert (seen[1]["options"].max_pixels, seen[1]["trust_cache"]) == (None, False)  # type: ignore[attr-defined]


def test_a_raised_limit_is_raised_for_pillow_too(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert main([*words, "--quiet"]) == 1
    assert "too-large" in capsys.readouterr().out
    assert main([*words, "--quiet", "--max-pixels", "1000"]) == 0


@pytest.mark.parametrize("word", ["x", "1.5", ""])
def test_numbers_are_asked_for_in_words(words: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*words, "--max-pixels", word])
    assert caught.value.code == 2
    assert f"must be a whole number, got {word!r}" in capsys.readouterr().err


def test_the_check_changes_nothing_in_the_dataset(words: list[str], kaggle: Path) -> None:
    def look() -> dict[Path, object]:
        return {file: take_state(file.stat()) for file in sorted(kaggle.rglob("*"))}

    before = look()
    assert main([*words, "--deep"]) == 0
    assert look() == before


def test_a_tilde_is_the_home_folder(
    path: Path, kaggle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["dataset", "check", str(path), "--dataset_dir", f"~/{kaggle.name}", "--quiet"]) == 0


def test_the_summary_says_what_was_handled(
    words: list[str], path: Path, kaggle: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    for case in manifest.cases:
        for name in case.label or ():
            with Image.open(kaggle / name) as picture:
                array = np.asarray(picture)
            Image.fromarray(array).convert("1").save(kaggle / name)
    bare = tuple(replace(case, sha256={}) for case in manifest.cases)
    write_manifest(replace(manifest, mask_values={0: 0, 1: 1}, cases=bare), path)
    assert main(words) == 0
    assert "  handled: 9 files stored with 1 bit per pixel\n" in capsys.readouterr().out
    main([*words, "--json"])
    assert json.loads(capsys.readouterr().out)["handled"] == {"files stored with 1 bit per pixel": 9}


@pytest.mark.parametrize("command", ["build", "check"])
def test_a_full_disk_is_told_before_the_work(
    command: str,
    words: list[str],
    kaggle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1}))
    target = str(tmp_path / "out")
    build = ["dataset", "build", "lgg", str(kaggle), "-o", target]
    assert main(build if command == "build" else [*words, "--html", target]) == 1
    assert capsys.readouterr().err.startswith(f"error: output-space: cannot write {target}")
    assert not Path(target).exists()
