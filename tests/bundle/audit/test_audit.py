"""The command and the function: clean bundles stay clean, allow-lists, overrides, JSON, SARIF, weights, time."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pipeline.bundle.audit import Allowances, audit_bundle, read_allowances
from pipeline.bundle.audit.codes import CODES
from pipeline.bundle.audit.files.logging_conf import check_logging
from pipeline.bundle.audit.files.metadata_fields import is_plain_shape
from pipeline.bundle.audit.files.private_data import check_text
from pipeline.bundle.audit.files.torch_pickles import check_pickle
from pipeline.bundle.audit.files.weight_loading import check_twins
from pipeline.commands.cli import main
from pipeline.issues import InputError
from tests.bundle.audit.bundles import LOGGING, Files, encode, list_codes, make_files, write_folder, write_zip
from tests.bundle.audit.public_style import make_public

ROOT = Path(__file__).resolve().parents[3]
BUNDLES = sorted(path.parent for path in ROOT.glob("bundles/*/configs"))


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_the_suites_bundles_are_clean(bundle: Path, tmp_path: Path) -> None:
    paths = [path.relative_to(bundle).as_posix() for path in sorted(bundle.rglob("*")) if path.is_file()]
    # Of a working copy, what git ignores is not part of the bundle.
    files = {path: (bundle / path).read_bytes() for path in paths if not path.startswith(("output/", "eval/", "logs/"))}
    assert len(files) >= 15
    for way in (write_folder(files, tmp_path / bundle.name), write_zip(files, tmp_path / "x.zip")):
        result = audit_bundle(way)
        assert [finding for finding in result.findings if finding.level != "note"] == []
        # The picture of a model card may stand in docs/.
        pictures = [finding.file for finding in result.findings]
        assert pictures == [path for path in files if path.startswith("docs/") and path.endswith(".png")]


@pytest.mark.parametrize("name", make_public())
def test_configs_in_the_style_of_public_bundles_get_only_reviews(name: str, tmp_path: Path) -> None:
    files = make_public()[name]
    for way in (write_folder(files, tmp_path / name), write_zip(files, tmp_path / f"{name}.zip")):
        result = audit_bundle(way, allow_code=True)
        assert result.errors == [], result.format()
        assert {finding.code for finding in result.reviews} <= {
            *("expression-review", "absolute-path", "weak-hash", "bundle-code", "code-summary"),
        }
    # Without the permission, the code is what stops it, and nothing else.
    refused = audit_bundle(tmp_path / name)
    assert {finding.code for finding in refused.errors} == ({"unexpected-code"} if "scripts" in str(files) else set())


def write_hostile(tmp_path: Path) -> Path:
    config = {
        "x": {"_target_": "scripts.net.Net"},
        "y": "$os.getcwd()",
        "z": {"_target_": "evil.Net"},
        "i": "$import evil",
    }
    return write_folder({**make_files(config), "scripts/net.py": b"import torch\n"}, tmp_path / "spleen")


def test_an_allow_list_covers_names_and_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = write_hostile(tmp_path)
    assert main(["bundle", "audit", str(bundle), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["clean"] is False
    errors = [finding for finding in found["findings"] if finding["level"] == "error"]
    assert {(finding["code"], finding["key"]) for finding in errors} == {
        ("unexpected-code", ""),
        ("target-outside", "z#_target_"),
        ("expression-import", "i"),
        ("expression-name", "y"),
    }
    # What the JSON gives is what the allow-list takes.
    entries = [{key: finding[key] for key in ("code", "file", "sha256")} for finding in errors]
    allow = tmp_path / "allow.json"
    keep = [entry for entry in entries if entry["code"] in ("unexpected-code", "expression-name")]
    allow.write_text(json.dumps({"targets": ["evil.Net", "evil"], "findings": keep}))
    assert main(["bundle", "audit", str(bundle), "--allow", str(allow)]) == 0
    out = capsys.readouterr().out
    assert "note target-outside configs/train.json z#_target_: evil.Net; your allow-list covers it" in out
    # A file that has changed since is not covered any more.
    (bundle / "scripts/net.py").write_bytes(b"import os\n")
    assert main(["bundle", "audit", str(bundle), "--allow", str(allow)]) == 1
    assert "error unexpected-code scripts/net.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    {
        "[]": "expected {",
        '{"target": []}': "expected {",
        '{"targets": "x"}': "targets: expected a list of names",
        '{"findings": {}}': "findings: expected a list",
        '{"findings": [{"code": "picture"}]}': "expected code, file and sha256",
        '{"findings": [{"code": "pictur", "file": "a", "sha256": ""}]}': "code 'pictur'; did you mean 'picture'?",
        '{"findings": [{"code": "picture", "file": "a", "sha256": "b"}]}': "expected 64 digits",
    }.items(),
)
def test_a_wrong_allow_list_is_said_in_one_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "allow.json").write_text(content)
    with pytest.raises(InputError) as caught:
        read_allowances(tmp_path / "allow.json", tmp_path / "spleen")
    assert message in str(caught.value)


def test_an_allow_list_within_the_bundle_is_refused(tmp_path: Path) -> None:
    bundle = write_folder({**make_files(), "allow.json": b'{"targets": ["os.system"]}'}, tmp_path / "spleen")
    with pytest.raises(InputError, match="within the bundle, where its sender could have written it"):
        read_allowances(bundle / "allow.json", bundle)


def test_code_is_listed_when_it_is_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = b"import os, json\nfrom .net import Net\nos.system('x')\nos.system('y')\nprint(Net)\n"
    bundle = write_folder({**make_files(), "scripts/run.py": code}, tmp_path / "spleen")
    assert main(["bundle", "audit", str(bundle)]) == 1
    assert "error unexpected-code scripts/run.py: a file holds code; " in capsys.readouterr().out
    assert main(["bundle", "audit", str(bundle), "--allow-code"]) == 0
    line = "review code-summary scripts/run.py: imports .net, json, os; calls os.system, print; "
    assert line in capsys.readouterr().out


def test_overrides_are_judged_like_a_config(tmp_path: Path) -> None:
    bundle = write_folder(make_files(), tmp_path / "spleen")
    overrides: dict[str, Any] = {
        "network_def#_target_": "os.system",
        "lr": 0.1,
        "x": "$torch.load('y')",
        "run": "@nothing",
    }
    result = audit_bundle(bundle, overrides=overrides)
    assert [(finding.code, finding.file, finding.key) for finding in result.findings] == [
        ("target-denied", "(command line)", "network_def#_target_"),
        ("expression-call", "(command line)", "x"),
        ("reference-missing", "(command line)", "run"),
    ]


def test_only_the_chosen_configs_are_judged_and_always_the_metadata(tmp_path: Path) -> None:
    evil = encode({"x": {"_target_": "os.system"}})
    files = {**make_files(metadata={"name": "$evil"}), "configs/other.json": evil}
    bundle = write_folder(files, tmp_path / "spleen")
    result = audit_bundle(bundle, configs=["configs/train.json"])
    assert {finding.file for finding in result.errors} == {"configs/metadata.json"}
    assert "configs/other.json" in {finding.file for finding in audit_bundle(bundle).errors}


def test_a_missing_reference_names_the_nearest(tmp_path: Path) -> None:
    bundle = write_folder(make_files({"x": "@netwrk", "y": "@network_def#spatial_dim"}), tmp_path / "spleen")
    lines = [finding.one_line() for finding in audit_bundle(bundle).reviews]
    assert lines == [
        "review reference-missing configs/train.json x: no id netwrk; did you mean network?",
        "review reference-missing configs/train.json y: no id network_def#spatial_dim; "
        "did you mean network_def#spatial_dims?",
    ]


def test_sarif_is_what_code_hosts_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "audit", str(write_hostile(tmp_path)), "--sarif"]) == 1
    found = json.loads(capsys.readouterr().out)
    # The parts of the schema of SARIF 2.1.0 that are used.
    text = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
    result = {
        "type": "object",
        "required": ["ruleId", "level", "message", "locations"],
        "properties": {
            "message": text,
            "level": {"enum": ["none", "note", "warning", "error"]},
            "ruleIndex": {"minimum": 0},
        },
    }
    run = {"required": ["tool", "results"], "properties": {"results": {"type": "array", "items": result}}}
    jsonschema.validate(
        found, {"required": ["version", "runs"], "properties": {"runs": {"type": "array", "items": run}}}
    )
    assert found["version"] == "2.1.0"
    rules = found["runs"][0]["tool"]["driver"]["rules"]
    for entry in found["runs"][0]["results"]:
        assert rules[entry["ruleIndex"]]["id"] == entry["ruleId"]
    places = [
        entry["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for entry in found["runs"][0]["results"]
    ]
    assert set(places) == {"configs/train.json", "scripts/net.py"}


def test_notes_that_say_the_same_of_many_files_are_one_line(tmp_path: Path) -> None:
    pictures = {f"reference/input/{number}.nii.gz": b"\x1f\x8b" for number in range(3)}
    code = {"scripts/one.py": b"", "scripts/two.py": b""}
    result = audit_bundle(write_folder({**make_files(), **pictures, **code}, tmp_path / "spleen"))
    lines = result.format().splitlines()
    assert len([line for line in lines if line.startswith("error unexpected-code scripts/")]) == 2
    (note,) = [line for line in lines if line.startswith("note ")]
    assert note.startswith("note documented-picture reference/input/0.nii.gz and 2 more: ")
    assert result.summary() == lines[-1]
    assert len(result.to_dict()["findings"]) == 5


def test_documents_in_json_are_not_taken_for_configs(tmp_path: Path) -> None:
    component = {"bom-ref": "pkg:pypi/monai@1.6.1", "externalReferences": [{"url": "https://x.y", "type": "vcs"}]}
    materials = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "components": [component],
        "commands": ["/usr/bin/python3 -m monai.bundle run"],
    }
    files = {**make_files(), "bom.cdx.json": encode(materials), "reference/image.nii.gz": b"\x1f\x8b"}
    result = audit_bundle(write_folder(files, tmp_path / "spleen"))
    assert [(finding.level, finding.code) for finding in result.findings] == [("note", "documented-picture")]
    # What MONAI would run is looked for everywhere: any file can be named in --config_file.
    files["bom.cdx.json"] = encode({"x": "$evil", "y": {"_target_": "os.system"}})
    result = audit_bundle(write_folder(files, tmp_path / "evil"))
    assert [finding.code for finding in result.errors] == ["expression-name", "target-denied"]


def test_every_finding_of_a_zip_is_that_of_the_folder(tmp_path: Path) -> None:
    files: Files = {**make_files({"x": "$evil"}), "docs/a.pkl": b"x"}
    folder, archive = write_folder(files, tmp_path / "spleen"), write_zip(files, tmp_path / "spleen.zip")
    assert audit_bundle(folder).findings == audit_bundle(archive).findings
    assert audit_bundle(folder).digests == audit_bundle(archive).digests


def test_allowances_need_the_digest(tmp_path: Path) -> None:
    folder = write_folder({**make_files(), "docs/a.pkl": b"x"}, tmp_path / "spleen")
    digest = audit_bundle(folder).digests["docs/a.pkl"]
    for value, errors in ((digest, 0), ("0" * 64, 1)):
        allowances = Allowances(findings=frozenset({("pickle-file", "docs/a.pkl", value)}))
        assert len(audit_bundle(folder, allowances=allowances).errors) == errors


def test_weights_are_loaded_in_another_process(tmp_path: Path) -> None:
    import torch

    stream = io.BytesIO()
    torch.save({"weight": torch.ones(3)}, stream)
    good = stream.getvalue()
    # The pickle is in order, the tensor's bytes are missing.
    place = good.index(b"data/0") - 30
    broken = good[:place] + good[place:].replace(b"data/0", b"data/9")
    network = {"network_def": {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": 3}}
    # Whole weights, but of another network than the bundle's.
    for content, codes in ((good, {"weights-mismatch"}), (broken, {"weights-unloadable"})):
        folder = write_folder({**make_files(network), "models/model.pt": content}, tmp_path / min(codes))
        assert list_codes(audit_bundle(folder)) == set()
        result = audit_bundle(folder, load_weights=True)
        assert list_codes(result) == codes
        if codes == {"weights-mismatch"}:
            assert result.errors[0].why == "weight: [3] in the weights, [1, 1, 3, 3] in the network"


@pytest.mark.parametrize(
    ("changes", "differs"),
    [({}, None), ({"decoy": {"w": 1.0}, "network": {"w": -7.0}}, "w"), ({"model": {"w": 1.0}}, "w"), ({"w": 2.0}, "w")],
)
def test_weights_are_compared_with_what_a_loader_takes(changes: dict[str, Any], differs: str | None) -> None:
    import safetensors.torch
    import torch

    def fill(value: Any) -> Any:
        return {key: fill(item) for key, item in value.items()} if isinstance(value, dict) else torch.full((2,), value)

    for content in [fill(changes)] if changes else [fill({"w": 1.0}), fill({"network": {"w": 1.0}, "epoch": {"x": 3}})]:
        stream = io.BytesIO()
        torch.save(content, stream)
        stream.seek(0)
        twin = io.BytesIO(safetensors.torch.save(fill({"w": 1.0})))
        found = list(check_twins("a", stream, "b", twin, 1000))
        assert [(one.code, one.key) for one in found] == ([("weights-differ", differs)] if differs else [])


def test_many_findings_are_cut_off_but_judged(tmp_path: Path) -> None:
    config = {"a": ["$lambda: 0"] * 250, "b": ["$evil"] * 5, "c": "%configs/train.json#run"}
    result = audit_bundle(write_folder(make_files(config), tmp_path / "reviews"))
    codes = Counter(finding.code for finding in result.findings)
    # A code that is not shown could not be allowed by a person who reads.
    assert codes == {"expression-review": 200, "expression-name": 5, "macro-file": 1, "config-too-large": 1}
    (finding,) = [finding for finding in result.findings if finding.code == "config-too-large"]
    assert (finding.level, finding.why) == ("review", "50 more findings of the kinds in this list")
    result = audit_bundle(write_folder(make_files({"b": ["$evil"] * 250}), tmp_path / "errors"))
    assert Counter(finding.code for finding in result.errors) == {"expression-name": 200, "config-too-large": 1}
    whys = {finding.why for finding in result.errors}
    assert whys == {"evil", "200 errors; what comes after this place was not judged"}


def test_what_comes_after_many_operations_of_a_pickle_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.bundle.audit.files.torch_pickles._MOST_OPERATIONS", 1000)
    (finding,) = check_pickle("model.pt", "data.pkl", b"\x80\x02" + b"N" * 1000 + b"cos\nsystem\n.")
    assert (finding.code, finding.why) == ("weights-pickle", "more than 1000 operations; the rest was not judged")
    assert list(check_pickle("model.pt", "data.pkl", b"\x80\x02" + b"N" * 900 + b".")) == []


def test_names_of_files_are_not_taken_for_modules(tmp_path: Path) -> None:
    names = ["statistics.json", "logging.conf", "random.pt", "copy.nii.gz", "test.png"]
    config = {"paths": [f"$@bundle_root + '/' + '{name}'" for name in names], "names": names}
    assert list_codes(audit_bundle(write_folder(make_files(config), tmp_path / "spleen"))) == set()


def test_the_place_of_a_named_class_is_its_argument(tmp_path: Path) -> None:
    config = {"x": {"_target_": "LoadImage", "reader": ["PILReader"]}, "x#reader#0": "subprocess.Popen"}
    (finding,) = audit_bundle(write_folder(make_files(config), tmp_path / "spleen")).errors
    assert (finding.code, finding.key, finding.why) == ("named-class", "x#reader#0", "reader: 'subprocess.Popen'")


def test_relative_references_within_a_copy_are_clean(tmp_path: Path) -> None:
    config = {"a": "%b", "b": {"one": 1, "two": "$@#one + 1", "three": {"four": "@##one", "five": "%#four"}}}
    assert list_codes(audit_bundle(write_folder(make_files(config), tmp_path / "spleen"))) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lgg_attunet", "hippocampus_segresnet"])
def test_the_suites_weights_fit_their_networks(name: str) -> None:
    assert audit_bundle(ROOT / "bundles" / name, load_weights=True).errors == []


@pytest.mark.parametrize(
    "field",
    [
        *(
            "class=StreamHandler",
            "class=logging.StreamHandler",
            "class=logging.handlers.RotatingFileHandler",
            "class=eval",
        ),
        *(
            "class=os.system",
            "class=StreamHandler()",
            "class=__builtins__.eval",
            "class=logging.os.system",
            "class=handlers",
        ),
        *(
            "args=()",
            "args=(sys.stderr,)",
            "args=('a', 1)",
            "args=(sys.exit(),)",
            "args=(os.getcwd,)",
            "args=[x for x in ()]",
        ),
        *("kwargs={'stream': sys.stdout}", "kwargs={'a': open('x')}", "args=(", "class=x y"),
    ],
)
def test_the_rule_for_logging_is_that_of_monai(field: str, tmp_path: Path) -> None:
    from monai.bundle.workflows import _reject_executable_logging_config

    path = tmp_path / "logging.conf"
    key = field.partition("=")[0]
    lines = [line for line in LOGGING.splitlines() if not line.startswith(f"{key}=")]
    place = lines.index("[handler_console]") + 1
    path.write_text("\n".join([*lines[:place], field, *lines[place:]]))
    try:
        _reject_executable_logging_config(str(path))
        refused = False
    except ValueError:
        refused = True
    assert any(finding.code == "logging-code" for finding in check_logging("x", path.read_bytes())) == refused


@pytest.mark.parametrize(
    "shape",
    [
        "*",
        "p",
        "16*2**p",
        "2**p*n",
        "96",
        "-1",
        "1/2",
        "().a",
        "p.q",
        "f(p)",
        "[p]",
        "9**9**9",
        "x",
        "p if n else 1",
        "1<<p",
    ],
)
def test_plain_shapes_are_those_that_monai_computes(shape: str) -> None:
    from monai.bundle.scripts import _get_fake_spatial_shape

    try:
        _get_fake_spatial_shape([shape], p=1, n=1, any=1)
        computed = True
    except (ValueError, SyntaxError):
        computed = False
    # Towers of powers are computed by MONAI in numbers that overflow.
    assert is_plain_shape(shape) == (computed and shape != "9**9**9")


def test_private_names_are_found_as_words() -> None:
    def find(text: str) -> list[tuple[str, str]]:
        return [(finding.code, finding.key) for finding in check_text("x", text.encode(), {"gpu-box-7"})]

    assert find("trained on gpu-box-7.") == [("host-name", "line 1")]
    assert find("trained on gpu-box-77\nor my-gpu-box-7") == []
    assert find("a\nsee /Users/jsmith/x") == [("home-path", "line 2")]
    assert find("see /home/user/x and /home/ubuntu") == []
    assert find("see https://www.example.org/home/index.html, www.example.org/Users/x or docs/root/x") == []
    for path in ("file:///home/jsmith", "host:/home/jsmith", "/mnt/home/jsmith", "(/root/x)", "a=/home/jsmith"):
        assert find(path) == [("home-path", "line 1")], path
    assert find('{"patient_id": "@id", "PatientID": null, "subject": 1}') == []
    assert find('{"patient_id": "1234"}') == [("patient-field", "line 1")]


def test_an_audit_takes_less_than_two_seconds_and_loads_neither_torch_nor_monai() -> None:
    code = (
        "import sys, time; from pathlib import Path; from pipeline.bundle.audit import audit_bundle\n"
        f"result = audit_bundle(Path({str(ROOT / 'bundles/braintumor_unet')!r}))\n"
        "assert not result.errors, result.format()\n"
        "assert not {'torch', 'monai', 'numpy'} & set(sys.modules)\n"
        "print(time.process_time())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 2


def test_a_giant_config_is_refused_quickly(tmp_path: Path) -> None:
    texts = {"a": b"[" + b"1," * 2_000_000 + b"1]", "b": b'"' + b'\\"' * 2_400_000, "c": b"[" * 4_900_000}
    for name, content in texts.items():
        folder = write_folder({**make_files(), "configs/big.json": content}, tmp_path / name)
        start = time.process_time()
        assert audit_bundle(folder).errors
        assert time.process_time() - start < 5


def test_many_large_configs_are_refused_together(tmp_path: Path) -> None:
    large = b'"' + b"x" * 4_500_000 + b'"'
    files = {**make_files(), **{f"configs/{number}.json": large for number in range(6)}}
    errors = audit_bundle(write_folder(files, tmp_path / "spleen")).errors
    assert {finding.why for finding in errors} == {"all configs exceed 20000000 bytes"}


def test_every_code_is_documented_and_found_by_a_test() -> None:
    from tests.bundle.audit.hostile import CASES
    from tests.bundle.audit.test_archives import ARCHIVES

    tested = {code for _, code in (*CASES.values(), *ARCHIVES.values())}
    # These have tests of their own, here.
    elsewhere = {
        "code-summary",
        "bundle-code",
        "reference-missing",
        "weights-unloadable",
        "weights-mismatch",
        "weights-differ",
        "host-name",
    }
    assert set(CODES) - tested == {*elsewhere, "documented-picture"}
    assert all(code.meaning and code.todo for code in CODES.values())
