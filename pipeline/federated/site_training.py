"""A bundle's training at one site, a round at a time: weights in, weights and scores out."""

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow
from monai.engines import SupervisedTrainer
from monai.handlers import ValidationHandler

from pipeline.bundle.config_files import read_config
from pipeline.datasets.manifests.manifest_file import read_manifest
from pipeline.federated.sites import Site
from pipeline.handlers.checkpoints.checkpoint_files import find_last
from pipeline.issues import InputError
from pipeline.weights import find_misfit

_LOGGER = logging.getLogger(__name__)
Weights = Mapping[str, Any]


class SiteTraining:
    """Train a site's copy of a bundle in rounds.

    One trainer of the bundle's own ``train.json`` goes on from round to round: only its weights are replaced. So the
    optimizer keeps its moments at the site, the learning rate follows one schedule over all rounds, and the seeds are
    those of an ordinary training of ``rounds * local_epochs`` epochs. The weights that a round starts from, which are
    the same at all sites, are scored on the site's validation cases before it trains.

    ``output_dir/model.pt`` is the best of the weights that the site has scored.

    Args:
        site: where its files are.
        rounds: of the federation.
        local_epochs: epochs of each round.
        labels: name by label id that the federation trains; None does not compare them.

    Raises:
        InputError: the site's files are not as expected: missing, other labels, an earlier run in ``output_dir`` ...
    """

    def __init__(self, site: Site, rounds: int, local_epochs: int, labels: Mapping[str, str] | None = None) -> None:
        check_site(site, labels)
        self.site = site
        self.local_epochs = local_epochs
        self.workflow = _open_workflow(site, rounds * local_epochs)
        trainer = self.workflow.trainer
        if not isinstance(trainer, SupervisedTrainer):
            raise InputError(f"{site.bundle}: train#trainer must be a SupervisedTrainer, got {type(trainer).__name__}")
        self.trainer: Any = trainer
        self.evaluator: Any = self.workflow.parser.get_parsed_content("validate#evaluator")
        self._should_stop: Callable[[], bool] = lambda: False
        ValidationHandler(rounds * local_epochs + 1, self.evaluator, exec_at_start=True).attach(trainer)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._stop_if_asked)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._end_round)

    @property
    def n_train(self) -> int:
        """Number of training cases; a case that is listed several times counts once."""
        return count_cases(self.trainer.data_loader.dataset.data)

    @property
    def n_val(self) -> int:
        """Number of validation cases."""
        return count_cases(self.evaluator.data_loader.dataset.data)

    def score(self, weights: Weights) -> dict[str, float]:
        """Return the scores of weights on the site's validation cases.

        Args:
            weights: array or tensor by name, of the whole network.
        """
        self._load(weights)
        self.evaluator.run(self.trainer.state.epoch)
        return self._read_scores()

    def train(
        self, weights: Weights, should_stop: Callable[[], bool] = lambda: False
    ) -> tuple[Weights, dict[str, float]]:
        """Score weights, then train them for ``local_epochs``.

        Args:
            weights: array or tensor by name, of the whole network.
            should_stop: asked after each iteration.

        Returns:
            The trained weights as arrays, and the scores of the weights given.
        """
        self._load(weights)
        self._should_stop = should_stop
        scores: dict[str, float] = {}

        def keep(evaluator: Engine) -> None:
            scores.update(scores or self._read_scores())

        with self.evaluator.add_event_handler(Events.COMPLETED, keep):
            self.trainer.run()
        return {name: value.detach().cpu().numpy().copy() for name, value in self._state().items()}, scores

    def close(self) -> None:
        """Let the workflow finalize."""
        self.workflow.finalize()

    def _state(self) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = self.trainer.network.state_dict()
        return state

    def _load(self, weights: Weights) -> None:
        given = {name: torch.as_tensor(value) for name, value in weights.items()}
        misfit = find_misfit(self._state(), given)
        if misfit:
            raise InputError(
                f"the weights of the federation do not fit the network of {self.site.bundle} at site "
                f"{self.site.name!r}: {misfit}; every site needs the same network_def as the bundle of the job"
            )
        self.trainer.network.load_state_dict(given)

    def _read_scores(self) -> dict[str, float]:
        values = {name: float(value) for name, value in self.evaluator.state.metrics.items()}
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def _stop_if_asked(self, trainer: Engine) -> None:
        if self._should_stop():
            trainer.terminate()

    def _end_round(self, trainer: Engine) -> None:
        if trainer.state.epoch % self.local_epochs == 0:
            trainer.terminate()


def check_site(site: Site, labels: Mapping[str, str] | None = None) -> None:
    """Compare a site's files with what the federation expects, before anything is loaded.

    Args:
        site: where its files are.
        labels: name by label id that the federation trains; None does not compare them.

    Raises:
        InputError: a file or folder is missing, the labels differ, or ``output_dir`` has an earlier run.
    """
    for name in site.configs:
        read_config(site.bundle, name)
    if not site.dataset_dir.is_dir():
        raise InputError(f"site {site.name!r} has no data: there is no folder {site.dataset_dir}; correct dataset_dir")
    manifest = read_manifest(site.manifest, site.dataset_dir)
    own = {str(label): name for label, name in sorted(manifest.labels.items())}
    if labels is not None and own != dict(labels):
        raise InputError(
            f"the labels of site {site.name!r} differ: {site.manifest} has {_list_labels(own)}, the federation trains "
            f"{_list_labels(labels)}; build the manifest again with these labels"
        )
    earlier = find_last(site.output_dir)
    if earlier:
        raise InputError(
            f"{earlier[0]} is from an earlier run of site {site.name!r}; remove it, or name another output_dir"
        )


def count_cases(items: Any) -> int:
    """Count the different cases of a datalist.

    Example:
        >>> count_cases([{"case_id": "a"}, {"case_id": "a"}, {"case_id": "b"}]), count_cases([{"image": "x.png"}])
        (2, 1)
    """
    return len({str(item.get("case_id", item.get("image"))) for item in items})


def _list_labels(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{label} {name}" for label, name in labels.items())


def _open_workflow(site: Site, epochs: int) -> ConfigWorkflow:
    paths = {key: str(getattr(site, key)) for key in ("dataset_dir", "manifest", "output_dir")}
    # The rounds decide when to validate and when to stop.
    fixed = {"max_epochs": epochs, "val_interval": epochs + 1, "early_stop_patience": 2 * epochs + 9, "resume": False}
    workflow = ConfigWorkflow(
        config_file=[str(Path(site.bundle) / "configs" / name) for name in site.configs],
        workflow_type="train",
        logging_file=False,
        bundle_root=str(site.bundle),
        **{**site.settings, **paths, **fixed},
    )
    workflow.initialize()
    return workflow
