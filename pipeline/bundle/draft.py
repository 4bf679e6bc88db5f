"""A bundle that is being made: its name and place, its dataset, its recipe."""

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.bundle.configs import make_inert
from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.recipe import Recipe

MANIFESTS = "data_manifests"
# Longer expressions are hard to read.
_LONGEST = 80
# The networks of stacks see a slice with one neighbour on each side.
SLICES = 3


@dataclass(frozen=True)
class Draft:
    """What the texts and configs of a new bundle are made from."""

    name: str  #: of the new bundle
    folder: Path  #: its place, absolute
    dataset: UserDataset  #: the data that it is for
    recipe: Recipe  #: network and settings
    authors: str = ""  #: of the new bundle, "" if they are not known

    @property
    def template(self) -> str:
        """Name of the template."""
        return self.recipe.template

    @property
    def softmax(self) -> bool:
        """Whether the network has one output channel per label, and not one for the only label."""
        return self.template == "volumes" or (self.template != "objects" and len(self.dataset.labels) > 2)

    @property
    def outputs(self) -> int:
        """The network's output channels."""
        return len(self.dataset.labels) if self.softmax else 1

    @property
    def slices(self) -> int:
        """How many slices the network sees at once, as further channels."""
        return SLICES if self.template == "stacks" else 1

    @property
    def inputs(self) -> int:
        """The network's input channels."""
        return len(self.dataset.channels) * self.slices

    @property
    def unit(self) -> str:
        """What a score of a stack is called: a patient's only if each case is a different subject."""
        return "patient" if self.dataset.has_subjects else "case"

    @property
    def root(self) -> Path:
        """The folder that holds the folder of bundles; paths in configs are relative to it."""
        return self.folder.parent.parent

    @property
    def bundle_root(self) -> str:
        """The folder of the bundle, relative to `root`."""
        return str(make_inert(f"{self.folder.parent.name}/{self.name}", "./"))

    @property
    def output_dir(self) -> str:
        """The folder of the results, as the configs have it: outside of the bundle, which may travel."""
        return f"output/{self.name}"

    @property
    def dataset_dir(self) -> str:
        """The folder of the dataset as the configs have it: relative to `root` inside of it, else absolute."""
        path = self.dataset.folder
        if path is None:
            return f"data/{self.name}"
        inside = path.is_relative_to(self.root)
        return str(make_inert(Path(os.path.relpath(path, self.root)).as_posix() if inside else str(path), "./"))

    @property
    def input(self) -> str:
        """The folder of images to predict first, as the configs have it."""
        path = os.path.normpath(f"{self.dataset_dir}/{self.dataset.image_folder()}")
        return str(make_inert(Path(path).as_posix(), "./"))

    def locate_manifest(self) -> Path:
        """Return the place where the bundle will look for its manifest.

        Where there is a folder ``data_manifests`` beside the folder of bundles, manifests belong there; one that lies
        elsewhere is copied. A manifest names files and subjects, so it is never put into the bundle, which may travel.
        """
        shelf = self.root / MANIFESTS
        if shelf.is_dir() and not self.dataset.path.is_relative_to(shelf):
            return shelf / f"{self.name}.json"
        return self.dataset.path

    def express_manifest(self) -> str:
        """Return the value of ``manifest``: below ``bundle_root``, so that it is found from every directory."""
        path = self.locate_manifest()
        relative = Path(os.path.relpath(path, self.folder)).as_posix()
        text = f"$@bundle_root + '/{relative}'"
        # MONAI takes an expression with the word import for a statement, before it puts the references in.
        odd = any(mark in relative for mark in (*"'\\@%#{}", "import"))
        plain = path.is_relative_to(self.root) and relative.isascii() and relative.isprintable() and not odd
        return text if plain and len(text) <= _LONGEST else str(path)
