"""What ``inference.json`` predicts, which is what every client must predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.bundle import ConfigParser, run

from tests.bundles.conftest import ROOT
from tests.clients.copies import copy_bundle, copy_small, load_weights
from tests.clients.images import read_mask


@dataclass(frozen=True)
class Predicted:
    """A bundle and its label map of an image."""

    bundle: Path
    labels: np.ndarray  #: without axes of length 1


def predict(name: str, image: Path, folder: Path) -> Predicted:
    """Predict with the bundle as it is where it has weights; else with a small network.

    If one label is predicted everywhere, as with many faults, each channel of the output is shifted to a median of 0.
    """
    trained = (ROOT / "bundles" / name / "models/model.pt").is_file()
    bundle = (copy_bundle if trained else copy_small)(name, folder)
    labels = _run(bundle, image, folder / "masks")
    if labels.min() == labels.max():
        _shift_output(bundle, image)
        labels = _run(bundle, image, folder / "shifted")
    assert 0 < (labels > 0).mean() < 1, "some of the image is foreground"
    return Predicted(bundle, labels)


def _shift_output(bundle: Path, image: Path) -> None:
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs/inference.json"))
    parser["bundle_root"] = str(bundle)
    weights = load_weights(bundle / "models/model.pt")
    network = parser.get_parsed_content("network").eval()
    network.load_state_dict(weights)
    with torch.no_grad():
        inputs = parser.get_parsed_content("preprocessing")({"image": str(image)})["image"][None]
        logits = parser.get_parsed_content("inferer")(inputs, network)[0]
    channels = logits.shape[0]
    last = [key for key, value in weights.items() if key.endswith("bias") and value.shape == (channels,)][-1]
    weights[last] -= logits.reshape(channels, -1).median(dim=1).values.as_tensor()
    torch.save(weights, bundle / "models/model.pt")


def _run(bundle: Path, image: Path, output_dir: Path) -> np.ndarray:
    run(
        config_file=str(bundle / "configs/inference.json"),
        logging_file=False,
        bundle_root=str(bundle),
        input=str(image),
        output_dir=str(output_dir),
    )
    (mask,) = output_dir.rglob("*_pred.*")
    labels: np.ndarray = read_mask(mask).squeeze()
    return labels
