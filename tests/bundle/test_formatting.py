from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.bundle.formatting import LINE_WIDTH, format_config, format_files
from pipeline.commands.cli import main
from pipeline.issues import InputError


def write_bundle(folder: Path, text: str) -> Path:
    (folder / "configs").mkdir(parents=True)
    path = folder / "configs" / "train.json"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, "{}\n"),
        ([], "[]\n"),
        ({"b": 1, "a": [1, [2, {}]], "é": None}, '{"b": 1, "a": [1, [2, {}]], "é": null}\n'),
        (["x" * 120], '[\n    "' + "x" * 120 + '"\n]\n'),
        (
            {"a": {"b": ["x" * 120]}},
            '{\n    "a": {\n        "b": [\n            "' + "x" * 120 + '"\n        ]\n    }\n}\n',
        ),
    ],
)
def test_what_fits_stands_on_one_line(data: Any, text: str) -> None:
    assert format_config(data) == text


def test_indentation_key_and_comma_count() -> None:
    # 4 of indentation, 7 of the key, 4 of quotes and brackets.
    fits = "x" * (LINE_WIDTH - 15)
    assert f'    "abc": ["{fits}"]\n' in format_config({"long": "y" * 100, "abc": [fits]})
    comma = format_config({"abc": [fits], "long": "y" * 100})
    assert f'    "abc": [\n        "{fits}"\n    ],\n' in comma
    assert f'    "abc": ["{fits[1:]}"],\n' in format_config({"abc": [fits[1:]], "long": "y" * 100})


def test_format_keeps_the_content_and_is_stable(repository: Path) -> None:
    for path in sorted((repository / "bundles").glob("*/configs/*.json")):
        data = json.loads(path.read_text())
        text = format_config(data)
        assert json.dumps(json.loads(text)) == json.dumps(data)
        assert format_config(json.loads(text)) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_know_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        format_config({"lr": value})


def test_files_are_formatted_once(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "mine", '{"b": [\n1],\n"a": 2}')
    assert format_files([tmp_path / "mine"], check=True) == [path]
    assert path.read_text().count("\n") == 2
    assert format_files([tmp_path / "mine"]) == [path]
    assert path.read_text() == '{"b": [1], "a": 2}\n'
    assert format_files([path, tmp_path / "mine"]) == []
    assert [file.name for file in path.parent.iterdir()] == ["train.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,}', "train.json: line 1 column "),
        ('{"a": 1, "a": 2}', "train.json: line 1 column 10: duplicate key 'a'"),
        ('{"a": NaN}', "train.json: line 1 column 7: NaN is not a JSON number"),
    ],
)
def test_broken_files_are_refused_before_anything_is_written(tmp_path: Path, text: str, message: str) -> None:
    good = write_bundle(tmp_path / "good", '{"b":1}')
    bad = write_bundle(tmp_path / "bad", text)
    with pytest.raises(InputError, match=message) as caught:
        format_files([good, bad])
    assert "\n" not in str(caught.value)
    assert (good.read_text(), bad.read_text()) == ('{"b":1}', text)


def test_places_without_configs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no configs"):
        format_files([tmp_path])
    with pytest.raises(InputError, match=r"cannot read .*none\.json: no such file"):
        format_files([tmp_path / "none.json"])


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_bundle(tmp_path / "bundles" / "mine", '{"b":1}')
    monkeypatch.chdir(tmp_path)
    assert main(["bundle", "format", "mine", "--check"]) == 1
    assert capsys.readouterr().out == "bundles/mine/configs/train.json: not formatted\n"
    assert main(["bundle", "format"]) == 0
    assert capsys.readouterr().out == "bundles/mine/configs/train.json: formatted\n"
    assert path.read_text() == '{"b": 1}\n'
    assert main(["bundle", "format", "bundles/mine/configs/train.json", "--check"]) == 0
    assert capsys.readouterr().out == "all files are formatted\n"
    assert main(["bundle", "format", "other"]) == 1
    assert "error: " in capsys.readouterr().err
