"""A bundle that is being made: the source's configs, the dataset, and what was changed so far."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.bundle.config_files import TRAIN
from pipeline.bundle.configs import Config, Configs
from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.kinds import Kind
from pipeline.issues import InputError


@dataclass
class Draft:
    """What the edits work on.

    Args:
        name: of the new bundle.
        folder: where it will lie, absolute.
        source: folder of the source.
        metadata: of the source.
        configs: of the source; the edits change them.
        kind: what the source is made for.
        dataset: what the new bundle is for.
        outputs: channels that the source's network gives; 1 is the probability of one label.
        changes: what was changed, a line each, for the user.
    """

    name: str
    folder: Path
    source: Path
    metadata: Config
    configs: Configs
    kind: Kind
    dataset: UserDataset
    outputs: int = 1
    changes: list[str] = field(default_factory=list)

    def tell(self, line: str) -> None:
        """Note a change, once."""
        if line not in self.changes:
            self.changes.append(line)

    @property
    def root(self) -> Path:
        """The folder that holds the folder of bundles; paths in configs are relative to it."""
        return self.folder.parent.parent

    @property
    def train(self) -> Config:
        """The training config."""
        return self.configs.files[TRAIN]

    @property
    def neighbours(self) -> tuple[int, int]:
        """How many slices before and behind each slice the network sees as further channels."""
        for block in self.configs.find("NeighbourSlicesToChannelsd", file=TRAIN):
            return block.item.get("before", 1), block.item.get("after", 1)
        return 0, 0

    @property
    def slices(self) -> int:
        """How many slices the network sees at once, 1 without neighbours."""
        return sum(self.neighbours) + 1

    def network(self, key: str) -> Any:
        """Return an argument of the network.

        Raises:
            InputError: the network has no such argument.
        """
        value = self.train.get("network_def", {}).get(key)
        if value is None:
            raise InputError(f"{self.source / 'configs' / TRAIN}: network_def has no {key}, so it cannot be changed")
        return value

    def set_network(self, key: str, value: Any) -> None:
        """Give the network an argument in every config that defines it or overrides it."""
        for data in self.configs.files.values():
            if isinstance(data.get("network_def"), dict):
                data["network_def"][key] = value
            if f"network_def#{key}" in data:
                data[f"network_def#{key}"] = value

    def relate(self, path: Path) -> str:
        """Return a path as a config holds it: relative to `root` inside of it, else absolute."""
        return Path(os.path.relpath(path, self.root)).as_posix() if path.is_relative_to(self.root) else str(path)
