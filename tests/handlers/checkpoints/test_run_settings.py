"""What must not change at a resume is refused in one line; what may change is said in one line."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine

from pipeline.handlers.checkpoints.run_settings import check_settings, describe_settings
from pipeline.issues import InputError

PATH = Path("run/last_epoch=3.pt")


def describe(
    folder: Path,
    cases: str = "abc",
    val: str = "de",
    text: str = "{}",
    rate: float = 0.1,
    activation: type[torch.nn.Module] = torch.nn.ReLU,
    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam,
    batch_size: int = 2,
    seed: int = 0,
) -> dict[str, Any]:
    manifest = folder / "manifest.json"
    manifest.write_text(text)
    network = torch.nn.Sequential(torch.nn.Linear(1, 1), activation())
    evaluator: Any = Engine(lambda engine, batch: None)
    evaluator.data_loader = build_loader(val)
    objects = {"network": network, "optimizer": optimizer(network.parameters(), lr=rate)}
    return describe_settings(objects, build_loader(cases, batch_size), evaluator, seed, manifest)


def build_loader(cases: str, batch_size: int = 1) -> Any:
    class Cases:
        def __init__(self) -> None:
            self.data = [{"case_id": name} for name in cases]

        def __len__(self) -> int:
            return len(self.data)

    return torch.utils.data.DataLoader(Cases(), batch_size=batch_size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "what", "setting"),
    [
        ({"cases": "abd"}, "the training cases are", "--fold and --manifest"),
        ({"cases": "ab"}, "the training cases are", "--fold and --manifest"),
        ({"val": "d"}, "the validation cases are", "--fold and --manifest"),
        ({"text": "[]"}, "the content of the manifest is", "--manifest or the file"),
        ({"optimizer": torch.optim.SGD}, "the optimizer is", "optimizer"),
        ({"activation": torch.nn.PReLU}, "the layers of the network (such as an activation) are", "network_def"),
    ],
)
def test_a_change_that_is_refused(change: dict[str, Any], what: str, setting: str, tmp_path: Path) -> None:
    before = describe(tmp_path)
    with pytest.raises(InputError) as caught:
        check_settings(before, describe(tmp_path, **change), PATH)
    assert str(caught.value) == (
        f"resume: {what} not as in {PATH}: set {setting} back, or start a new run in another --output_dir"
    )
    check_settings(before, describe(tmp_path), PATH)


def test_changes_that_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_settings(describe(tmp_path), describe(tmp_path, batch_size=4, seed=7), PATH)
    line = "resume: seed is 7, was 0; batch_size is 4, was 2: the losses are no longer those of the first run"
    assert [record.getMessage() for record in caplog.records] == [line]


def test_another_number_of_workers_is_told_because_they_draw_other_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = describe(tmp_path)
    check_settings({**before, "num_workers": 4}, before, PATH)
    assert caplog.messages == ["resume: num_workers is 0, was 4: the losses are no longer those of the first run"]


def test_a_learning_rate_may_change_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        check_settings(describe(tmp_path), describe(tmp_path, rate=0.3), PATH)
    assert caplog.records == []


def test_layers_are_not_compared_between_versions(tmp_path: Path) -> None:
    before = {**describe(tmp_path), "versions": "2.8.0 1.5.0"}
    check_settings(before, describe(tmp_path, activation=torch.nn.PReLU), PATH)


def test_a_checkpoint_of_an_earlier_version_is_accepted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_settings({}, describe(tmp_path), PATH)
    assert caplog.records == []


@pytest.mark.parametrize("data", [None, [1, 2], [{"image": 0}]])
def test_cases_without_an_id_and_a_file_are_not_compared(data: Any) -> None:
    loader = build_loader("a")
    loader.dataset.data = data
    assert describe_settings({}, loader)["train_cases"] is None
