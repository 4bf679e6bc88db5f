"""A trainer that is run again goes on: rounds of federated learning, second calls in a notebook."""

import logging
import threading

import pytest
import torch
from ignite.engine import Engine, Events
from tiny_training import read_losses
from whole_training import Scalars, build, read_record

from pipeline import handlers


def run_more(trainer, epochs=1):
    trainer.state.max_epochs = trainer.state.epoch + epochs
    trainer.run()


def name_checkpoints(folder):
    return sorted(path.name for path in folder.glob("*.pt"))


def read_network(path, name="network"):
    content = torch.load(path, weights_only=True)
    return content.get(name, content)


def test_rounds_go_on_with_the_weights_that_they_are_given(tmp_path):
    trainer = build(tmp_path, 1, writer=Scalars())
    trainer.run()
    for epoch in (2, 3):
        given = {name: value * 0.5 for name, value in trainer.network.state_dict().items()}
        trainer.network.load_state_dict(given)
        trainer.state.max_epochs = epoch
        trainer.optimizer.param_groups[0]["lr"] = 0.0  # so that what it ends with is what it was given
        trainer.run()
        assert trainer.state.epoch == epoch
        saved = read_network(tmp_path / f"last_epoch={epoch}.pt")
        assert all(torch.equal(saved[name], value) for name, value in given.items())
    assert name_checkpoints(tmp_path) == ["last_epoch=2.pt", "last_epoch=3.pt", "model.pt"]
    assert sorted(read_losses(tmp_path / "losses.txt")) == [(1 + k // 3, 1 + k) for k in range(9)]
    record = read_record(tmp_path)
    assert (record["status"], record["runs"], record["epochs"]) == ("finished", 3, 3)
    assert "previous" not in record
    assert not (tmp_path / ".run.lock").exists()


def test_a_later_round_does_not_return_to_the_checkpoint_that_the_first_resumed(tmp_path):
    build(tmp_path, 1).run()
    trainer = build(tmp_path, 2, resume=True)
    trainer.run()
    trainer.network.load_state_dict({name: value * 0 for name, value in trainer.network.state_dict().items()})
    trainer.state.max_epochs = 3
    before = trainer.checkpoint_handler.best_metric
    trainer.optimizer.param_groups[0]["lr"] = 0.0
    trainer.run()
    assert trainer.state.epoch == 3
    assert all(not value.any() for value in read_network(tmp_path / "last_epoch=3.pt").values())
    assert trainer.checkpoint_handler.best_metric >= before, "the best of all rounds counts"


def test_a_finished_trainer_that_is_run_again_starts_anew_and_replaces_its_checkpoints(tmp_path):
    trainer = build(tmp_path, 3)
    trainer.run()
    assert name_checkpoints(tmp_path) == ["last_epoch=2.pt", "last_epoch=3.pt", "model.pt"]
    trainer.run()
    assert trainer.state.epoch == 3
    assert len((tmp_path / "losses.txt").read_text().splitlines()) == 18
    assert name_checkpoints(tmp_path) == ["last_epoch=2.pt", "last_epoch=3.pt", "model.pt"]
    saved = torch.load(tmp_path / "last_epoch=3.pt", weights_only=True)
    assert saved["trainer"]["iteration"] == 9
    assert all(torch.equal(saved["network"][name], value) for name, value in trainer.network.state_dict().items())


def test_patience_counts_anew_in_every_run(tmp_path, monkeypatch):
    trainer = build(tmp_path, 9, patience=2)
    monkeypatch.setattr(trainer.evaluator, "metric_cmp_fn", lambda current, best: False)
    trainer.run()
    assert trainer.state.epoch == 3
    trainer.run()
    assert trainer.state.epoch == 5, "neither at once nor never"
    run_more(trainer)
    run_more(trainer)
    assert trainer.state.epoch == 7


def test_a_schedule_that_is_over_begins_anew_and_a_longer_one_goes_on(tmp_path):
    rates = {}
    for length in (2, 8):
        trainer = build(tmp_path / str(length), 2, schedule_length=length)
        seen = rates[length] = []
        trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine, seen=seen: seen.append(_read_rate(engine)))
        trainer.run()
        run_more(trainer, 2)
    assert rates[2] == pytest.approx([0.01, 0.005, 0.01, 0.005])
    assert rates[8] == pytest.approx([0.005 * (1 + torch.cos(torch.tensor(torch.pi * k / 8)).item()) for k in range(4)])


def _read_rate(engine):
    return engine.optimizer.param_groups[0]["lr"]


def test_pretrained_weights_are_loaded_once():
    class Network(torch.nn.Module):
        loaded = 0

        def load_encoder_weights(self, weights, partial):
            self.loaded += 1

    network = Network()
    engine = Engine(lambda engine, batch: None)
    loader = handlers.EncoderWeightsLoader(network, "imagenet")
    loader(engine)
    loader(engine)
    assert network.loaded == 1


def test_rounds_in_another_thread_warn_once(tmp_path, caplog):
    trainer, errors = build(tmp_path, 1), []

    def work():
        try:
            trainer.run()
            run_more(trainer)
            run_more(trainer)
        except BaseException as error:
            errors.append(error)

    with caplog.at_level(logging.WARNING):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert errors == []
    assert trainer.state.epoch == 3
    assert [record.getMessage() for record in caplog.records].count(
        "not the main thread: SIGTERM and Ctrl-C end this run without finishing the iteration"
    ) == 1


def test_a_round_that_fails_leaves_the_next_one_free(tmp_path):
    def fail(engine):
        if engine.state.iteration == 5:
            raise OSError("a broken slice")

    trainer = build(tmp_path, 1)
    trainer.add_event_handler(Events.ITERATION_STARTED, fail)
    trainer.run()
    with pytest.raises(OSError, match="a broken slice"):
        run_more(trainer)
    assert read_record(tmp_path)["error"] == "a broken slice"
    run_more(trainer)
    record = read_record(tmp_path)
    assert (record["status"], record["runs"]) == ("finished", 3)
    assert "error" not in record
