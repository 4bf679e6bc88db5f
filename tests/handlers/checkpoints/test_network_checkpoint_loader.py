import hashlib
import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine

from pipeline.handlers import NetworkCheckpointLoader, RunRecord
from pipeline.issues import InputError


def load(path: Path | str | list[str], network: torch.nn.Module) -> None:
    engine = Engine(lambda engine, batch: None)
    NetworkCheckpointLoader(path, network).attach(engine)
    engine.run([0])


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"network": state, "best": {"metric": 0.5}}])
def test_loads_raw_weights_and_last_checkpoints(wrap, tmp_path: Path) -> None:
    source, target = torch.nn.Conv2d(2, 3, 1), torch.nn.Conv2d(2, 3, 1)
    torch.save(wrap(source.state_dict()), tmp_path / "model.pt")
    load(tmp_path / "model.pt", target)
    torch.testing.assert_close(target.weight, source.weight)
    torch.testing.assert_close(target.bias, source.bias)


@pytest.mark.parametrize("form", ["{0},{1}", ["{0}", "{1}"], "{0}"])
def test_of_several_checkpoints_the_first_is_loaded(form: str | list[str], tmp_path: Path) -> None:
    source, target = torch.nn.Conv2d(2, 3, 1), torch.nn.Conv2d(2, 3, 1)
    first, second = tmp_path / "fold 0, best.pt" if form == "{0}" else tmp_path / "a.pt", tmp_path / "b.pt"
    torch.save(source.state_dict(), first)
    given = [part.format(first, second) for part in form] if isinstance(form, list) else form.format(first, second)
    load(given, target)
    torch.testing.assert_close(target.weight, source.weight)


@pytest.mark.parametrize("names", [("model.pt",), ("a.pt", "b.pt")])
def test_the_record_of_the_run_names_all_weights(names: tuple[str, ...], tmp_path: Path) -> None:
    network = torch.nn.Conv2d(2, 3, 1)
    files = [tmp_path / name for name in names]
    for seed, file in enumerate(files):
        torch.save({"weight": network.weight + seed, "bias": network.bias}, file)
    engine = Engine(lambda engine, batch: None)
    NetworkCheckpointLoader(files, network).attach(engine)
    RunRecord(tmp_path, filename="evaluate.json").attach(engine)
    engine.run([0])
    found = json.loads((tmp_path / "evaluate.json").read_text())["checkpoint"]
    assert found["path"].split(", ") == [str(file) for file in files]
    assert found["sha256"].split(", ") == [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


@pytest.mark.parametrize("given", ["", [], ","])
def test_no_file_is_named(given: str | list[str]) -> None:
    with pytest.raises(InputError, match="--checkpoint names no file"):
        load(given, torch.nn.Conv2d(2, 3, 1))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no checkpoint at .*nope\.pt; name one with --checkpoint"):
        load(tmp_path / "nope.pt", torch.nn.Conv2d(2, 3, 1))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (torch.nn.Conv2d(2, 5, 1), r"weight is \(5, 2, 1, 1\), expected \(3, 2, 1, 1\) \(and 1 more difference\)"),
        (torch.nn.BatchNorm2d(3, affine=False), "weight is missing"),
    ],
)
def test_weights_of_another_network(other: torch.nn.Module, message: str, tmp_path: Path) -> None:
    torch.save(other.state_dict(), tmp_path / "model.pt")
    with pytest.raises(InputError, match=f"does not fit the network of this config: {message}") as caught:
        load(tmp_path / "model.pt", torch.nn.Conv2d(2, 3, 1))
    assert "\n" not in str(caught.value)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"network": Payload()}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="holds more than tensors, an object of getattr, which may run code"):
        load(tmp_path / "model.pt", torch.nn.Conv2d(2, 3, 1))
    assert not (tmp_path / "ran").exists()
