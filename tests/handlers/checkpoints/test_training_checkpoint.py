"""TrainingCheckpoint: what is written, what a resume restores, and every refusal in one line."""

import errno
import itertools
import logging
import shutil
from collections import namedtuple

import pytest
import torch
from ignite.engine import Engine, Events

import pipeline.handlers.checkpoints.atomic_save as atomic
from pipeline.handlers import CaseMetricsSaver, EarlyStop, TrainingCheckpoint
from pipeline.handlers.checkpoints.checkpoint_files import find_last
from pipeline.issues import InputError
from pipeline.runs.tables import read_values

NAN = float("nan")


class Run:
    """A training of one weight that counts its epochs, with validation scores as told."""

    def __init__(self, folder, scores, after=(), key="val_mean_dice", network=None, **options):
        self.network = network or torch.nn.Linear(1, 1)
        self.optimizer = torch.optim.Adam(self.network.parameters())
        self.trained = []
        self.evaluator = Engine(lambda engine, batch: None)
        self.trainer = Engine(self._step)
        to_save = options.pop("to_save", {"network": self.network, "optimizer": self.optimizer})
        # Before ours, as MONAI's ValidationHandler is.
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.evaluator.run([[{"case_id": "a"}]]))
        self.evaluator.add_event_handler(
            Events.EPOCH_COMPLETED,
            lambda: self.evaluator.state.metrics.update({key: scores[self.trainer.state.epoch - 1]}),
        )
        CaseMetricsSaver(folder / "tables").attach(self.evaluator)  # a part of the evaluator, so attached before
        self.checkpoint = TrainingCheckpoint(folder, to_save, self.evaluator, **options)
        self.checkpoint.attach(self.trainer)
        for build in after:
            build(self).attach(self.trainer)
        self.max_epochs = len(scores)

    def _step(self, engine, batch):
        with torch.no_grad():
            self.network.weight.fill_(engine.state.epoch)
        self.trained.append(engine.state.epoch)

    def run(self, batches=2):
        self.trainer.state.max_epochs, self.trainer.state.epoch_length = self.max_epochs, batches
        self.trainer.state.iteration = self.trainer.state.epoch = 0  # as MONAI's Workflow sets them
        self.trainer.run([0] * batches)
        return self


def best_weight(folder):
    return torch.load(folder / "model.pt", weights_only=True)["weight"].item()


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "tables")


def test_best_is_a_raw_state_dict_and_last_holds_everything(tmp_path):
    Run(tmp_path, [0.5, 0.7, 0.6]).run()
    assert names(tmp_path) == ["last_epoch=2.pt", "last_epoch=3.pt", "model.pt"]
    assert set(torch.load(tmp_path / "model.pt", weights_only=True)) == {"weight", "bias"}
    assert best_weight(tmp_path) == 2
    last = torch.load(tmp_path / "last_epoch=3.pt", weights_only=True)
    assert last["best"] == {"metric": 0.7, "epoch": 2, "key_metric": "val_mean_dice"}
    assert last["trainer"]["epoch"] == 3
    assert last["network"]["weight"].item() == 3
    assert {"network", "optimizer", "trainer", "best", "settings"} == set(last)


def test_files_can_be_read_by_others(tmp_path):
    Run(tmp_path, [0.5]).run()
    assert (tmp_path / "model.pt").stat().st_mode & 0o400


@pytest.mark.parametrize(("scores", "best"), [([NAN, 0.2, NAN], 2), ([0.2, NAN, 0.1], 1), ([0.2, 0.2], 1)])
def test_only_an_improvement_replaces_the_best(tmp_path, scores, best):
    run = Run(tmp_path, scores).run()
    assert best_weight(tmp_path) == best
    assert run.evaluator.state.best_metric == 0.2
    assert run.evaluator.state.best_metric_epoch == best


@pytest.mark.parametrize(
    ("scores", "kept"), [([0.5, 0.7, 0.6], 0.7), ([NAN, 0.2, NAN], 0.2), ([0.2, 0.1], 0.2), ([NAN, NAN], NAN)]
)
def test_tables_of_scores_are_those_of_the_best_weights(tmp_path, scores, kept):
    Run(tmp_path, scores).run()
    found = read_values(tmp_path / "tables/metrics.csv")
    assert found == pytest.approx({"val_mean_dice": kept}, nan_ok=True)
    if kept == kept:
        Run(tmp_path, [*scores, 0.1], resume=True).run()
        assert read_values(tmp_path / "tables/metrics.csv") == found
        Run(tmp_path, [*scores, 0.1, 0.9], resume=True).run()
        assert read_values(tmp_path / "tables/metrics.csv") == {"val_mean_dice": 0.9}


def test_no_finite_metric_no_best(tmp_path):
    run = Run(tmp_path, [NAN, float("inf")]).run()
    assert not (tmp_path / "model.pt").exists()
    assert run.evaluator.state.best_metric == -1


def test_a_smaller_metric_is_better_if_the_evaluator_says_so(tmp_path):
    run = Run(tmp_path, [0.5, 0.3, 0.4])
    run.evaluator.metric_cmp_fn = lambda new, old: new < old
    run.run()
    assert best_weight(tmp_path) == 2


def test_resume_goes_on_after_the_last_epoch(tmp_path, caplog):
    Run(tmp_path, [0.5, 0.7]).run()
    with caplog.at_level(logging.INFO, "pipeline"):
        run = Run(tmp_path, [0.5, 0.7, 0.6, 0.65], resume=True).run()
    assert run.trained == [3, 3, 4, 4]
    assert run.trainer.state.iteration == 8
    assert "resumed after epoch 2 of 4 from" in caplog.text
    # A worse epoch after the resume does not replace the best.
    assert best_weight(tmp_path) == 2
    assert run.evaluator.state.best_metric == 0.7
    assert names(tmp_path) == ["last_epoch=3.pt", "last_epoch=4.pt", "model.pt"]


@pytest.mark.parametrize("wanted", [2, 1])
def test_resuming_a_finished_run_trains_nothing(tmp_path, caplog, wanted):
    Run(tmp_path, [0.5, 0.7]).run()
    run = Run(tmp_path, [0.5, 0.7][:wanted], resume=True).run()
    assert run.trained == []
    assert f"this run is finished, 2 of {wanted} epochs are done; raise --max_epochs" in caplog.text
    assert names(tmp_path) == ["last_epoch=1.pt", "last_epoch=2.pt", "model.pt"]


def test_a_truncated_newest_checkpoint_is_skipped_and_named(tmp_path, caplog):
    Run(tmp_path, [0.5, 0.7, 0.6]).run()
    newest = tmp_path / "last_epoch=3.pt"
    newest.write_bytes(newest.read_bytes()[:-200])
    run = Run(tmp_path, [0.5, 0.7, 0.6, 0.1], resume=True).run()
    assert run.trained == [3, 3, 4, 4]
    assert f"skipped {newest}: it is truncated: its end is missing after " in caplog.text


def test_a_foreign_file_under_our_name_is_skipped(tmp_path):
    Run(tmp_path, [0.5]).run()
    torch.save({"weight": torch.ones(1)}, tmp_path / "last_epoch=9.pt")
    assert Run(tmp_path, [0.5, 0.7], resume=True).run().trained == [2, 2]


def test_nothing_to_resume_from(tmp_path):
    with pytest.raises(
        InputError, match=r"^resume: no loadable checkpoint in .*; start a new run with --resume false$"
    ):
        Run(tmp_path, [0.5], resume=True).run()
    assert Run(tmp_path, [0.5], resume="false").run().trained == [1, 1]


def test_nothing_but_damaged_checkpoints(tmp_path):
    folder = tmp_path / "run"
    Run(folder, [0.5, 0.6]).run()
    for path in find_last(folder):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"no loadable checkpoint in .*; start a new run in another --output_dir$"):
        Run(folder, [0.5], resume=True).run()
    assert Run(tmp_path / "other", [0.5]).run().trained == [1, 1]


def test_a_fresh_run_does_not_mix_with_an_earlier_one(tmp_path):
    Run(tmp_path, [0.5]).run()
    with pytest.raises(InputError, match=r"last_epoch=1.pt is from an earlier run.*--resume true.*--output_dir"):
        Run(tmp_path, [0.5]).run()


def test_weights_that_lie_there_are_announced(tmp_path, caplog):
    (tmp_path / "model.pt").touch()
    Run(tmp_path, [0.5]).run()
    assert "will be replaced after the first validation" in caplog.text


def test_another_network_does_not_fit(tmp_path):
    Run(tmp_path, [0.5]).run()
    with pytest.raises(
        InputError,
        match=r"does not fit this experiment: network: weight is \(1, 1\), expected \(1, 3\); set network_def",
    ) as caught:
        Run(tmp_path, [0.5, 0.6], resume=True, network=torch.nn.Linear(3, 1)).run()
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_lacks_an_object(tmp_path):
    Run(tmp_path, [0.5]).run()
    network = torch.nn.Linear(1, 1)
    with pytest.raises(InputError, match="has no lr_scheduler"):
        Run(tmp_path, [0.5, 0.6], resume=True, to_save={"network": network, "lr_scheduler": network}).run()


def test_lost_best_weights_are_written_again(tmp_path, caplog):
    Run(tmp_path, [0.5]).run()
    (tmp_path / "model.pt").unlink()
    Run(tmp_path, [0.5, 0.3], resume=True).run()
    assert best_weight(tmp_path) == 2
    assert "model.pt is missing" in caplog.text


def test_another_epoch_length_is_announced(tmp_path, caplog):
    Run(tmp_path, [0.5]).run(batches=2)
    run = Run(tmp_path, [0.5, 0.6], resume=True).run(batches=3)
    assert run.trained == [2, 2, 2]
    assert "resume: epoch_length is 3, was 2: the losses are no longer those of the first run" in caplog.text


def test_the_gradient_scaler_comes_back(tmp_path):
    first = Run(tmp_path, [0.5])
    first.trainer.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    first.trainer.scaler.scale(torch.ones(1))
    first.run()
    second = Run(tmp_path, [0.5, 0.6], resume=True)
    second.trainer.scaler = torch.amp.GradScaler("cpu")
    second.run()
    assert second.trainer.scaler.get_scale() == 8.0


def test_a_parallel_network_is_saved_without_its_wrapper(tmp_path):
    network = torch.nn.Linear(1, 1)
    Run(tmp_path, [0.5], network=network, to_save={"network": torch.nn.DataParallel(network)}).run()
    assert set(torch.load(tmp_path / "model.pt", weights_only=True)) == {"weight", "bias"}


def test_only_our_stale_files_are_removed(tmp_path):
    ours = [".model.pt.17.tmp", ".last_epoch=12.pt.4711.tmp"]
    theirs = [".notes.tmp", "tmpabc", ".model.pt.tmp", ".run.json.3.tmp"]
    for name in ours + theirs:
        (tmp_path / name).touch()
    Run(tmp_path, [0.5]).run()
    assert set(theirs) <= set(names(tmp_path))
    assert not set(ours) & set(names(tmp_path))


class Stateful:
    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state


def test_a_state_that_would_not_load_is_refused_after_the_first_epoch(tmp_path):
    network = torch.nn.Linear(1, 1)
    run = Run(tmp_path, [0.5, 0.6], network=network, to_save={"network": network, "odd": Stateful({"a": object})})
    with pytest.raises(InputError, match="plain tensors and numbers"):
        run.run()
    assert run.trained == [1, 1]
    assert find_last(tmp_path) == []


def test_a_metric_that_the_evaluator_lacks(tmp_path):
    with pytest.raises(InputError, match="'val_dice' is not a metric of the evaluator; choose one of 'val_mean_dice'"):
        Run(tmp_path, [0.5], key_metric="val_dice").run()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network_key": "net"}, "to_save has no 'net'"),
        ({"to_save": {"network": 0, "trainer": 0}}, "must not name trainer"),
        ({"n_saved": 0}, "n_saved must be at least 1, got 0"),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        Run(tmp_path, [0.5], **options)


Usage = namedtuple("Usage", "total used free")


def test_too_little_space_is_told_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 300_000))
    run = Run(tmp_path, [0.5])
    with pytest.raises(InputError, match=r"too little disk space in .*: the run needs 1\.\d MB .*, free 300\.0 kB"):
        run.run()
    assert run.trained == []


def test_a_disk_that_fills_up_leaves_whole_files(tmp_path, monkeypatch):
    calls, save = itertools.count(), torch.save

    def fail_later(state, file):
        save(state, file)
        if next(calls) == 3:  # epoch 2's last
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError:
                raise RuntimeError("[enforce fail at inline_container.cc]")  # noqa: B904  (as torch does)

    monkeypatch.setattr(atomic.torch, "save", fail_later)
    with pytest.raises(InputError, match=r"disk full at .*: needed .*, free .*; last good checkpoint: .*last_epoch=1"):
        Run(tmp_path, [0.5, 0.6]).run()
    assert names(tmp_path) == ["last_epoch=1.pt", "model.pt"]
    assert best_weight(tmp_path) == 2


def test_another_failure_of_the_writer_is_not_called_a_full_disk(tmp_path, monkeypatch):
    def fail(state, file):
        raise RuntimeError("something else")

    monkeypatch.setattr(atomic.torch, "save", fail)
    with pytest.raises(RuntimeError, match="something else"):
        Run(tmp_path, [0.5]).run()
    assert names(tmp_path) == []


def test_space_is_looked_at_before_every_save(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 10))
    with pytest.raises(InputError, match=r"disk full at .*: needed 65.5 kB, free 10 B; last good checkpoint: none"):
        atomic.save_state({"weight": torch.zeros(1)}, tmp_path / "a.pt")
    assert names(tmp_path) == []


def stop_early(patience=2, **options):
    return lambda run: EarlyStop(run.evaluator, patience=patience, **options)


def test_early_stop_waits_for_patience(tmp_path):
    run = Run(tmp_path, [0.1, 0.5, 0.4, NAN, 0.9], after=[stop_early()]).run()
    assert run.trainer.state.epoch == 4


def test_early_stop_counts_on_after_a_resume(tmp_path):
    Run(tmp_path, [0.5, 0.4], after=[stop_early()]).run()
    run = Run(tmp_path, [0.5, 0.4, 0.3, 0.9], after=[stop_early()], resume=True).run()
    assert run.trained == [3, 3]


def test_a_run_that_stopped_early_stays_stopped_unless_patience_is_raised(tmp_path, caplog):
    scores = [0.5, 0.4, 0.3, 0.2, 0.1]
    Run(tmp_path, scores, after=[stop_early()]).run()
    with caplog.at_level(logging.INFO, "pipeline"):
        assert Run(tmp_path, scores, after=[stop_early()], resume=True).run().trained == []
    assert (
        "stopped early: val_mean_dice has not improved on 0.5 for 2 validations; raise early_stop_patience"
        in caplog.text
    )
    assert Run(tmp_path, scores, after=[stop_early(3)], resume=True).run().trained == [4, 4]


def test_early_stop_can_be_added_at_a_resume(tmp_path):
    Run(tmp_path, [0.5]).run()
    assert Run(tmp_path, [0.5, 0.4, 0.3, 0.2], after=[stop_early()], resume=True).run().trainer.state.epoch == 4


def test_early_stop_ignores_small_changes(tmp_path):
    run = Run(tmp_path, [0.5, 0.51, 0.52, 0.9], after=[stop_early(min_delta=0.05)]).run()
    assert run.trainer.state.epoch == 3


@pytest.mark.parametrize("options", [{"patience": 0}, {"min_delta": -0.1}])
def test_early_stop_refuses_nonsense(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        EarlyStop(Engine(lambda engine, batch: None), **options)
