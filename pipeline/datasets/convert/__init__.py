"""Convert datasets to the layouts of other programs: one module per target, and the table of targets."""

from dataclasses import dataclass
from typing import Literal

Link = Literal["copy", "symlink", "hard"]
LINKS: tuple[Link, ...] = ("copy", "symlink", "hard")


@dataclass(frozen=True)
class Target:
    """A layout to write."""

    name: str  #: value of ``--to``
    description: str  #: one line for ``--help``
    folder: str  #: name of the output folder in examples

    @property
    def module(self) -> str:
        """Module with ``write(conversion) -> notes``."""
        return f"pipeline.datasets.convert.{self.name}"


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("decathlon", "Medical Segmentation Decathlon: imagesTr, labelsTr, imagesTs, dataset.json", "Task01_X"),
        Target("nnunet", "nnU-Net v2 raw data with splits_final.json", "nnUNet_raw/Dataset101_X"),
        Target("coco", "COCO: a folder and a JSON file of run-length masks a split, pictures only", "coco"),
    )
}
