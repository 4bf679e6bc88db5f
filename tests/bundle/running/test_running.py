"""What the audit refuses does not run; what runs is what was audited, as MONAI runs it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
import torch

from pipeline.bundle.audit import Allowances
from pipeline.bundle.running.import_places import forget_local_places
from pipeline.bundle.running.plan import make_plan
from pipeline.bundle.running.typed_words import read_typed
from pipeline.commands.cli import main
from pipeline.issues import InputError
from tests.bundle.audit.bundles import CONFIG, Files, encode, make_files, write_folder, write_zip

TOUCH = "__import__('pathlib').Path('canary').touch()"
# The seed that it leaves bundle that it ran, and with which values.
SEEDS: dict[str, Any] = {"value": 3, "sizes": [1, 2], "run": ["$torch.manual_seed(@value * 100 + sum(@sizes))"]}
IDLE = 99
HOSTILE = {"expression-name", "expression-attribute", "expression-review"}
WRITES: dict[str, Any] = {
    "writer": {"_target_": "torch.utils.tensorboard.SummaryWriter", "log_dir": "$@bundle_root + '/models'"},
    "run": ["$[@writer]"],  # it writes when it is built
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    torch.manual_seed(IDLE)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_folder(make_files(SEEDS), tmp_path / "spleen")


def run(*words: object) -> int:
    return main(["bundle", "run", *map(str, words)])


def check_refused(capsys: pytest.CaptureFixture[str], *words: object, codes: set[str]) -> str:
    """Run what must be refused; return the last line."""
    assert run(*words) == 1
    out = capsys.readouterr()
    lines = out.err.splitlines()
    assert {line.split()[1].strip(":") for line in lines if line.startswith(("error ", "review "))} == codes, out.err
    assert torch.initial_seed() == IDLE
    assert not Path("canary").exists()
    assert lines[-1].startswith(f"error: {words[0]}: refused, nothing ran: ")
    return lines[-1]


def follow(line: str) -> tuple[str, ...]:
    """Do what the last line bundle; return the options that it names."""
    found = re.search(r"add --allow (\S+) .*and write this line into (\S+): (\{.*\})$", line)
    assert found is not None, line
    assert found[1] == found[2]
    Path(found[2]).write_text(found[3])
    return ("--allow", found[1])


# ---- what is clean runs as MONAI runs it -----------------------------------------------------------------------------


def test_a_clean_bundle_runs_as_with_monai(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--value", "7", "--sizes", "[8,8]", "--network_def#spatial_dims=2")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert run(bundle, "train", *words) == 0
        mine = capsys.readouterr()
        assert torch.initial_seed() == 716
        torch.manual_seed(IDLE)
        assert not [warning for warning in caught if "GHSA" in str(warning.message)]
        monai.bundle.run(
            config_file=str(bundle / "configs/train.json"), value=7, sizes=[8, 8], **{"network_def#spatial_dims": 2}
        )
        assert [warning for warning in caught if "GHSA" in str(warning.message)], "silent here only"
    assert torch.initial_seed() == 716
    assert "spleen: 0 error, 0 review, 0 note; 5 files\nstarting configs/train.json\n" in mine.err


def test_several_configs_and_a_file_of_the_receivers(bundle: Path) -> None:
    (bundle / "configs/more.json").write_text(json.dumps({"value": 5}))
    Path("mine.json").write_text(json.dumps({"sizes": [9], "folder": "/my/data"}))
    assert run(bundle, "train", "more.json", "mine.json", "--folder", "/other/data") == 0
    assert torch.initial_seed() == 509


def test_a_zip_file_runs_and_is_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"spleen/{path}": content for path, content in make_files({**SEEDS, **WRITES, "bundle_root": "x"}).items()}
    archive = write_zip(files, tmp_path / "sent.zip")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert run(archive, "train", "--sha256", "0" * 64) == 1
    assert f"has the SHA-256 {digest}, not 0000" in capsys.readouterr().err
    assert run(archive, "train", "--sha256", digest) == 0
    # What was written into the copy would be lost with it.
    kept = Path("output/spleen/from_archive/models")
    assert [path.name.startswith("events.out") for path in kept.iterdir()] == [True]
    assert f"what the run wrote into the bundle is in {kept.parent}: models/events" in capsys.readouterr().out
    assert os.listdir(tmp_path / "temporary") == []
    assert run(archive, "train") == 0
    assert Path("output/spleen/from_archive_1").is_dir(), "nothing is overwritten"


def test_a_folder_is_its_own_root(tmp_path: Path) -> None:
    folder = write_folder(make_files({**WRITES, "bundle_root": "/workspace/x"}), tmp_path / "sp#leen")
    Path("list.json").write_text("{}")
    assert run(folder, "train", "--allow", "list.json") == 1, "an absolute path is for a person to look at"
    (folder / "configs/train.json").write_text(json.dumps({**CONFIG, **WRITES}))
    assert run(folder, "train") == 0
    assert len(list((folder / "models").iterdir())) == 1


def test_dry_run_runs_nothing(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(bundle, "train", "--dry-run", "--value", "a b") == 0
    command = f"python -m monai.bundle run --config_file {bundle}/configs/train.json --value 'a b'"
    assert capsys.readouterr().out == f"would run: {command}\n"


# ---- what is not clean is refused, and the hint works ----------------------------------------------------------------

REVIEW = {"imports": ["$import torch", "$import glob"], "images": "$sorted(glob.glob('x/*.png'))"}
CODE = {"run": ["$torch.manual_seed(VALUE)"], "imports": ["$import torch", "$from scripts.net import VALUE"]}


@pytest.mark.parametrize(
    ("changes", "more", "codes"),
    [
        (REVIEW, {}, {"expression-review"}),
        ({"evil": f"${TOUCH}"}, {}, HOSTILE),
        ({"initialize": [f"${TOUCH}"]}, {}, HOSTILE),
        ({}, {"docs/run.py": TOUCH.encode()}, {"unexpected-code"}),
    ],
)
def test_the_receivers_list_lets_it_run(
    changes: dict[str, Any], more: Files, codes: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder({**make_files({**SEEDS, **changes}), **more}, tmp_path / "spleen")
    options = follow(check_refused(capsys, folder, "train", codes=codes))
    assert run(folder, "train", *options) == 0
    assert torch.initial_seed() == 303
    torch.manual_seed(IDLE)
    # Another content needs another look.
    for path in (folder / "configs/train.json", *(folder / name for name in more)):
        path.write_bytes(path.read_bytes() + b"\n")
    check_refused(capsys, folder, "train", *options, codes=codes) if "initialize" not in changes else None


def test_a_value_on_the_command_line_is_audited(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for value in (f"${TOUCH}", f'("${TOUCH}",)', f'"${TOUCH}"', f'[1,{{"a":{{"${TOUCH}"}}}}]'):
        check_refused(capsys, bundle, "train", "--value", value, codes=HOSTILE)
    options = follow(check_refused(capsys, bundle, "train", "--value", "$torch.load('x')", codes={"expression-call"}))
    # The list names exactly these values.
    check_refused(capsys, bundle, "train", "--value", "$torch.load('y')", *options, codes={"expression-call"})
    check_refused(capsys, bundle, "train", "--network_def#_target_", "os.system", codes={"target-denied"})


def test_a_file_of_the_receivers_is_audited(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.json").write_text(json.dumps({"initialize": [f"${TOUCH}"]}))
    words = (bundle, "train", "mine.json")
    line = check_refused(capsys, *words, codes=HOSTILE)
    assert '"file": "(command line) mine.json"' in line
    options = follow(line)
    assert run(*words, *options) == 0
    assert Path("canary").exists(), "the payload is real, and allowed"


def test_only_what_runs_is_judged_with_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = encode({"part": {"x": f"${TOUCH}"}})
    files = {**make_files(SEEDS), "configs/evil.json": evil, "configs/a.json": encode({"x": "%configs/b.json"})}
    folder = write_folder({**files, "configs/b.json": encode("%configs/evil.json#part")}, tmp_path / "spleen")
    assert run(folder, "train") == 0
    torch.manual_seed(IDLE)
    codes = {*HOSTILE, "macro-file"}
    check_refused(capsys, folder, "train", "a", codes=codes)
    check_refused(capsys, folder, "train", "--x", "%configs/evil.json#part", codes=codes)


@pytest.mark.parametrize(
    "macro", ["%#evil.json#part", "%##evil.json#part", "%\nevil.json#part", "%docs/../evil.json#part"]
)
def test_a_config_that_a_macro_reads_is_judged_however_it_is_named(
    macro: str, bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (bundle / "evil.json").write_bytes(encode({"part": [f"${TOUCH}"]}))
    place = {"x": {"y": macro}} if macro.startswith("%##") else {"x": macro}
    (bundle / "configs/train.json").write_bytes(encode({**CONFIG, **SEEDS, **place}))
    monkeypatch.chdir(bundle)
    assert run(".", "train") == 1
    lines = capsys.readouterr().err.splitlines()
    named = {tuple(line.split()[1:3]) for line in lines if line.startswith("error ")}
    assert ("expression-name", "evil.json") in named or any(code == "macro-outside" for code, _ in named)
    assert not Path("canary").exists()


def test_code_runs_if_it_is_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {**make_files(CODE), "scripts/net.py": b"VALUE = 4\n", "scripts/__init__.py": b""}
    folder = write_folder(files, tmp_path / "spleen")
    line = check_refused(capsys, folder, "train", codes={"unexpected-code", "bundle-code"})
    assert "(or for code: --allow-code)" in line
    for options in (("--allow-code",), follow(line)):
        assert run(folder, "train", *options) == 0
        assert torch.initial_seed() == 4
        torch.manual_seed(IDLE)
        for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
            del sys.modules[name]
    assert not list(folder.rglob("__pycache__"))


def test_what_no_list_can_cover(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / "docs/link").symlink_to("/etc/passwd")
    line = check_refused(capsys, bundle, "train", codes={"member-link"})
    assert "member-link cannot be allowed: replace it by the file that it stands for" in line
    broken = bundle.with_name("broken.zip")
    broken.write_bytes(write_zip(make_files(SEEDS), broken).read_bytes()[:-30])
    assert "archive-damaged cannot be allowed" in check_refused(capsys, broken, "train", codes={"archive-damaged"})


def test_an_allow_list_from_the_sender_is_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / "allow.json").write_text(json.dumps({"targets": ["os.system"]}))
    Path("link.json").symlink_to(bundle / "allow.json")
    for name in (bundle / "allow.json", "link.json"):
        assert run(bundle, "train", "--allow", name) == 1
        assert "is within the bundle, where its sender could have written it" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["configs/train.json", "docs/new.txt", "mine.json"])
def test_what_changes_after_the_audit_does_not_run(bundle: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.json").write_text("{}")
    plan = make_plan(bundle, ["train", "mine.json"], [], Allowances())
    assert plan.refused == []
    (Path(file) if file == "mine.json" else bundle / file).write_text(json.dumps({"run": [f"${TOUCH}"]}))
    with pytest.raises(InputError, match=rf"{file}.* changed after it was audited|after it was audited: {file}"):
        plan.start(bundle)
    assert not Path("canary").exists()


# ---- what is typed wrongly, and what fails ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "there is no config 'trian' in the bundle, and no such file of yours; did you mean 'train.json'?"),
        (["train", "--sha265", "x"], "unknown option --sha265; did you mean 'sha256'?"),
        (["train", "--alow-code"], "did you mean 'allow-code'?"),
        (["train", "--args_file", "x.json"], "--args_file is not an option of bundle run: what it names would not be"),
        (["train", "--workflow_name", "os.system"], "--workflow_name is not an option"),
        (["train", "--tracking", "mlflow"], "--tracking is not an option"),
        (["train", "--meta_file", "x"], "--meta_file is not an option"),
        (["train", "--value", "1", "2"], "'2' is neither a config nor an option: type configs first"),
        (["train", "--value", "1", "--", "--interactive"], "'--' is neither a config nor an option"),
        (["mine.yaml"], "there is no config 'mine.yaml'"),
        (["train", "--sha256", "0" * 64], "--sha256 is the digest of a zip file"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(bundle, *words) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_words_are_read_as_monai_reads_them() -> None:
    words = ["--a", "1e-3", "--b=x,y", "--c", "--d-e", "None", "--f#g", "-1", "--h", "@x#y", "--i", "007"]
    assert read_typed(words, []) == {
        **{"a": 1e-3, "b": ("x", "y"), "c": True, "d_e": None},
        **{"f#g": -1, "h": "@x#y", "i": "007"},
    }


def test_a_failing_run_ends_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = {"_target_": "pipeline.datasets.find_inputs", "input": "nowhere", "channels": 1}
    bundle = write_folder(make_files({"x": missing, "run": ["$@x"]}), tmp_path / "spleen")
    assert run(bundle, "train") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"no such file or folder: {Path.cwd()}/nowhere"), last
    assert run(bundle, "train", "--run", "$[1][7]") == 1
    assert "IndexError" in capsys.readouterr().err


def test_an_interrupted_run_leaves_no_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.bundle.running.plan.start_monai", interrupt)
    assert run(write_zip(make_files(SEEDS), tmp_path / "sent.zip"), "train") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"
    assert os.listdir(tmp_path / "temporary") == []


# ---- names from a dataset, and where modules come from ---------------------------------------------------------------


def test_names_of_files_are_not_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    names = [f"${TOUCH.replace('/', '')}.png", "@value.png", "%train.json.png", "$import os.png"]
    for name in names:
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / "images" / name)
    found = {"_target_": "pipeline.datasets.find_images", "input": "@input"}
    config = {**SEEDS, "input": "x", "data": found, "run": ["$print('ran', [item['image'] for item in @data])"]}
    bundle = write_folder(make_files(config), tmp_path / "spleen")
    assert run(bundle, "train", "--input", tmp_path / "images") == 1
    options = follow(capsys.readouterr().err.splitlines()[-1])  # a comprehension is for a person to look at
    assert run(bundle, "train", "--input", tmp_path / "images", *options) == 0
    out = capsys.readouterr().out
    assert all(name in out.replace('\\"', '"') for name in names)
    assert not Path("canary").exists()


def test_modules_come_neither_from_the_bundle_nor_from_here(
    bundle: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    places = ["", ".", str(here), str(bundle), str(bundle / "docs"), "relative"]
    monkeypatch.setattr(sys, "path", [*places, *sys.path, str(tmp_path / "mine")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*places, str(tmp_path / "mine")]))
    forget_local_places(bundle)
    assert not set(places) & set(sys.path)
    assert str(tmp_path / "mine") in sys.path
    assert os.environ["PYTHONPATH"] == str(tmp_path / "mine")
    assert os.environ["PYTHONSAFEPATH"] == "1"
    assert run(bundle, "train") == 0
    assert not [place for place in sys.path if Path(place).is_relative_to(bundle)], "MONAI would add it"
