import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.commands.cli import COMMANDS, build_parser, main
from pipeline.issues import InputError

HEAVY = {"urllib3", "torch", "monai", "ignite", "numpy", "PIL", "scipy", "tqdm", "itk", "nibabel"}


def find_parsers(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, child in action.choices.items():
                yield from find_parsers(child, (*words, word))


ALL = list(find_parsers(build_parser()))


def test_the_commands_of_the_house_are_there() -> None:
    assert {" ".join(words) for words in ALL} >= {command.name for command in COMMANDS} | {"", "dataset"}
    assert {"dataset build", "dataset split", "dataset phantom", "dataset check", "report"} <= {
        c.name for c in COMMANDS
    }


@pytest.mark.parametrize("words", ALL, ids=[" ".join(words) or "pipeline" for words in ALL])
def test_help_ends_with_two_commands_and_imports_nothing_heavy(words: tuple[str, ...], repository: Path) -> None:
    code = (
        "import sys\nfrom pipeline.commands.cli import main\ntry:\n main(sys.argv[1:])\nfinally:\n"
        " print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--help"], capture_output=True, text=True, check=False, cwd=repository
    )
    seconds = time.perf_counter() - start
    assert done.returncode == 0
    assert HEAVY & set(done.stderr.split()) == set()
    lines = done.stdout.rstrip().splitlines()
    assert lines[-3] == "examples:"
    assert all(line.startswith(f"  python -m pipeline {' '.join(words)}") for line in lines[-2:])
    # 0.1 s on an idle machine.
    assert seconds < 5


@pytest.mark.parametrize("example", [line for command in COMMANDS for line in command.examples])
def test_examples_can_be_parsed(example: str) -> None:
    args, extras = build_parser().parse_known_args(example.split())
    assert extras == [] or example.startswith("bundle run"), "only this command takes ids of configs"
    assert callable(args.run)


def usage(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    return streams.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["datset"], "unknown 'datset'; did you mean 'dataset'?"),
        (["dataset", "chekc"], "unknown 'chekc'; did you mean 'check'?"),
        (["dataset", "xyzzy"], "unknown 'xyzzy'; known: build, split, "),
        (["dataset", "phantom", "lggg", "out"], "unknown 'lggg'; did you mean 'lgg'?"),
        (
            ["dataset", "check", "m", "--dataset_dir", "d", "--quik"],
            "unknown argument '--quik'; did you mean '--quick'?",
        ),
        (["dataset", "phantom", "lgg", "out", "more"], "unknown argument 'more'; see --help"),
        (["dataset", "check", "m"], "the following arguments are required: --dataset_dir"),
        (["dataset", "check", "m", "--dataset_dir", "d", "--jobs", "0"], "must be at least 1, got 0"),
        (["dataset", "check", "m", "--dataset_dir", "d", "--quick", "--deep"], "not allowed with"),
        (["bundle", "nwe", "mine"], "unknown 'nwe'; did you mean 'new'?"),
        (["bundle", "new", "mine", "--template", "picture"], "unknown 'picture'; did you mean 'pictures'?"),
        (["bundle", "new", "mine", "--template", "pictures", "--chanels", "3"], "did you mean '--channels'?"),
        (["bundle", "new", "mine", "--template", "pictures", "--from", "lgg_unet"], "not allowed with"),
        (
            ["bundle", "new", "mine"],
            "is required; see pipeline bundle new --help",
        ),
        (["tune", "lgg_unet", "--dataset_dir", "d", "--canditates", "3"], "did you mean '--candidates'?"),
        (["tune", "lgg_unet", "--dataset_dir", "d", "--candidates", "many"], "invalid int value: 'many'; see pipeline"),
    ],
)
def test_misspelt_words_are_usage_errors_with_the_nearest_name(
    capsys: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    answer = usage(capsys, *words)
    assert text in answer
    assert answer.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["dataset"]])
def test_no_command_prints_help_and_is_a_usage_error(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(words) == 2
    assert "examples:" in capsys.readouterr().err


def test_phantom_build_split_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "phantom"
    assert main(["dataset", "phantom", "lgg", str(out), "--patients", "4", "--seed", "1", "--size", "32"]) == 0
    assert capsys.readouterr().out.strip() == str(out / "manifest.json")
    root, mine = out / "kaggle_3m", tmp_path / "mine.json"
    assert main(["dataset", "build", "lgg", str(root), "-o", str(mine)]) == 0
    out_text = capsys.readouterr().out
    assert re.search(r"^  train +4 +4 +\d+ +4 +0$", out_text, re.MULTILINE)
    assert "labels: tumour " in out_text
    ids = tmp_path / "ids.txt"
    ids.write_text("# held out\n" + sorted(path.name for path in root.iterdir() if path.is_dir())[0])
    command = ["dataset", "split", str(mine), "--folds", "3", "--test-list", str(ids), "--named", f"ref={ids}"]
    assert main(command) == 0
    assert "  fold 2: 1 cases" in capsys.readouterr().out
    assert main([*command, "--seed", "5", "-o", str(tmp_path / "other.json")]) == 0
    assert json.loads((tmp_path / "other.json").read_text())["named_splits"]["ref"]["description"] == "held out"
    capsys.readouterr()
    for level in ([], ["--quick"], ["--deep"], ["--split", "test"], ["--split", "train", "--jobs", "1"]):
        assert main(["dataset", "check", str(mine), "--dataset_dir", str(root), *level]) == 0
        streams = capsys.readouterr()
        assert streams.out.endswith("0 errors, 0 warnings\n")
        assert streams.err == ""


def test_check_reports_findings_as_json(lgg_phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = json.loads((lgg_phantom / "manifest.json").read_text())
    source["cases"][0]["image"][0]["sha256"] = "0" * 64
    source["cases"][1]["image"][0]["path"] = "gone.tif"
    path = tmp_path / "m.json"
    path.write_text(json.dumps(source))
    root = lgg_phantom / "kaggle_3m"
    assert main(["dataset", "check", str(path), "--dataset-dir", str(root), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["errors"], result["level"], result["dataset_dir"]) == (2, "default", str(root))
    assert [issue["code"] for issue in result["issues"]] == ["checksum-mismatch", "missing-file"]


def test_check_tells_of_a_broken_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.json"
    path.write_text("{,}")
    assert main(["dataset", "check", str(path), "--dataset_dir", str(tmp_path)]) == 1
    assert "line 1 column 2" in capsys.readouterr().out
    path.write_text('{"nmae": 1}')
    assert main(["dataset", "check", str(path), "--dataset_dir", str(tmp_path), "--json"]) == 1
    assert {issue["code"] for issue in json.loads(capsys.readouterr().out)["issues"]} == {"manifest-schema"}
    assert main(["dataset", "check", str(tmp_path / "none"), "--dataset_dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: cannot read the manifest")


def test_wrong_named_split_is_told(lgg_phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "m.json")
    command = ["dataset", "split", str(lgg_phantom / "manifest.json"), "--folds", "2", "-o", out, "--named", "ref"]
    assert main(command) == 1
    assert capsys.readouterr().err == "error: --named expects NAME=FILE, got 'ref'\n"


@pytest.fixture
def summary(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Replaces the module that ``pipeline report`` calls."""
    module = types.SimpleNamespace(print_summary=lambda directory, as_json: 0)
    monkeypatch.setitem(sys.modules, "pipeline.reports.run_summary", module)
    return module


def test_report_passes_its_arguments_on(summary: types.SimpleNamespace) -> None:
    calls = []
    summary.print_summary = lambda directory, as_json: calls.append((directory, as_json)) or 1
    assert main(["report", "out", "--json"]) == 1
    assert calls == [(Path("out"), True)]


@pytest.mark.parametrize("words", [["report", ""], ["bundle", "list", "--bundles", ""]])
def test_an_empty_argument_does_not_mean_the_current_folder(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith("error: an argument is empty; is a variable of the shell not set?\n")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("no such\nfolder"), 1, "error: no such folder"),
        (OSError(28, "No space left on device"), 1, "error: [Errno 28] No space left on device"),
        (FileNotFoundError(2, "No such file", "a\x1bb"), 1, "error: a\\x1bb: no such file"),
        (KeyError("x"), 1, "error: KeyError: 'x'; this is a bug, --debug shows where"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_are_one_line(
    summary: types.SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    line: str,
) -> None:
    def fail(directory: Path, as_json: bool) -> int:
        raise error

    summary.print_summary = fail
    assert main(["report", "out"]) == code
    assert capsys.readouterr().err == f"{line}\n"
    if code == 1:
        for words in (["report", "out", "--debug"], ["--debug", "report", "out"]):
            assert main(words) == 1
            assert "Traceback" in capsys.readouterr().err


def test_a_closed_pipe_is_no_traceback(lgg_phantom: Path) -> None:
    script = (
        f"{sys.executable} -m pipeline dataset check {lgg_phantom}/manifest.json --dataset_dir {lgg_phantom}/kaggle_3m"
        " --json | true"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_ends_with_130(tmp_path: Path) -> None:
    # Reading stalls, as on a network disk.
    code = (
        "import sys, time\nimport pipeline.commands.dataset_build as c\nfrom pipeline.commands.cli import main\n"
        "def wait(*a, **k):\n print('ready', flush=True)\n time.sleep(60)\n"
        "c.read_layout = wait\nsys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "dataset", "build", "lgg", str(tmp_path), "-o", str(tmp_path / "m.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "interrupted\n")


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "pipeline", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "pipeline 0.1.0\n")


def test_colour_only_on_a_terminal_that_wants_it(
    lgg_phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.json"
    path.write_text("{}")
    command = ["dataset", "check", str(path), "--dataset_dir", str(tmp_path)]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    main(command)
    assert "\x1b[31m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    main(command)
    assert "\x1b[" not in capsys.readouterr().out
