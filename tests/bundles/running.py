"""A bundle's workflows, run on its phantom in this process as ``python -m monai.bundle run`` runs them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser, run
from monai.transforms import Compose
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.reports.run_summary import read_scores
from tests.bundles.conftest import read_json

# bfloat16 would make equal things differ in the third digit.
EXACT = {"logging_file": False, "amp": False}


@dataclass(frozen=True)
class Trained:
    """A finished training on a phantom."""

    bundle: Path
    data: dict[str, str]
    output_dir: Path

    @property
    def key_metric(self) -> str:
        return name_key_metric(self.bundle)


def configs(bundle: Path, *names: str) -> list[str]:
    return [str(bundle / "configs" / name) for name in names]


def read_refinement(bundle: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read the settings and the steps of the whole post-processing chain, most of them off."""
    override = read_json(bundle / "configs/refine.json")
    settings = {name: value for name, value in override.items() if name not in ("_desc_", "refine")}
    return settings, override["refine"]


def name_key_metric(bundle: Path) -> str:
    """Name the metric that chooses a bundle's best epoch."""
    (name,) = read_json(bundle / "configs/train.json")["validate"]["key_metric"]
    return str(name)


def train(bundle: Path, data: dict[str, str], output_dir: Path, **knobs: Any) -> Path:
    options = {"bundle_root": str(bundle), "output_dir": str(output_dir), **EXACT, **data, **knobs}
    run(config_file=configs(bundle, "train.json", "phantom.json"), **options)
    return output_dir


def evaluate(trained: Trained, output_dir: Path, **knobs: Any) -> dict[str, float]:
    run(
        config_file=configs(trained.bundle, "train.json", "evaluate.json", "phantom.json"),
        **{"bundle_root": str(trained.bundle), **EXACT, **trained.data},
        checkpoint=str(trained.output_dir / "model.pt"),
        output_dir=str(output_dir),
        **knobs,
    )
    return read_scores(output_dir / f"{trained.key_metric}_raw.csv")


def infer(trained: Trained, *overrides: str, **knobs: Any) -> None:
    options = {"checkpoint": str(trained.output_dir / "model.pt"), **knobs}
    run(
        config_file=configs(trained.bundle, "inference.json", "phantom.json", *overrides),
        **{"bundle_root": str(trained.bundle), **EXACT},
        **options,
    )


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def load_truth(bundle: Path, data: dict[str, str], case: dict[str, Any]) -> torch.Tensor:
    """Load a case's label as the bundle's training does, on the file's own grid: ``(1, *spatial)``."""
    config = ConfigParser(read_json(bundle / "configs/train.json"))
    config.config.update({**data, "bundle_root": str(bundle)})
    texts = config["train"]["deterministic_transforms"]
    for text in texts:
        text["keys"] = "label" if "label" in text["keys"] else text["keys"]
    steps = config.get_parsed_content("train#deterministic_transforms")
    chosen = [step for step, text in zip(steps, texts, strict=True) if text["keys"] == "label"]
    label: torch.Tensor = Compose(chosen)({"label": case["label"]})["label"]
    return label


def load_prediction(case: dict[str, Any], folder: Path, like: torch.Tensor) -> torch.Tensor:
    """Load what inference wrote for a case, found by the names of its images, as a tensor like its truth."""
    paths = [Path(path) for path in ([case["image"]] if isinstance(case["image"], str) else case["image"])]
    layers = [_read(_find(folder, path, len(paths))) for path in paths]
    stacked = np.stack(layers, axis=-1) if like.ndim == 4 and layers[0].ndim == 2 else layers[0]
    mask = torch.as_tensor(stacked.astype(np.int32))[None]
    assert mask.shape == like.shape, "on the image's own grid"
    return mask


def strip_suffix(image: Path) -> str:
    """Return the name of an image without its ending, which for NIfTI has two parts."""
    return image.name.removesuffix(".nii.gz") if image.name.endswith(".nii.gz") else image.stem


def _find(folder: Path, image: Path, files: int) -> Path:
    stem = strip_suffix(image)
    pattern = f"{image.parent.name}/{stem}_pred.*" if files > 1 else f"**/{stem}_pred.*"
    (found,) = folder.glob(pattern)
    return found


def _read(path: Path) -> np.ndarray:
    if path.name.endswith(".nii.gz"):
        import nibabel

        return np.asarray(nibabel.load(path).dataobj)
    pixels = np.asarray(Image.open(path))
    if pixels.dtype == np.uint8:
        assert set(np.unique(pixels)) <= {0, 255}
        return pixels // 255
    return pixels
