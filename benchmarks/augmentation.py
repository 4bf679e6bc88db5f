"""Augmentation: the steps of a bundle on a whole batch, against MONAI's on each case, and against batchgeneratorsv2.

``AugmentBatch`` runs ``train#augmentation`` of three bundles on batches of their size. MONAI runs the same steps case
by case, as a loader does. batchgeneratorsv2, the augmentation of nnU-Net, runs the same kinds of steps with the same
probabilities and strengths as far as it has them; it lives outside this project's requirements:
``pip install --no-deps batchgeneratorsv2==0.3.6 pandas``. Without it that column says "not measured".

Accuracy condition: with the same seed, images equal MONAI's within 0.001 of their standard deviation on average and
labels in 0.9995 of their pixels; noise is left out of this comparison, as it has other numbers on purpose.

On a CPU times are those of the processor with one thread; on a GPU those of the clock with all work done, and the other
sides, which a loader's workers run, stay on the CPU.

Example:
    python benchmarks/augmentation.py --rounds 9 --json docs/benchmarks/augmentation.json
"""

import argparse
from collections.abc import Callable
from copy import deepcopy
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from clocks import DEVICE, take_turns
from monai.bundle import ConfigParser
from monai.transforms import Compose, RandGaussianNoised
from records import Row, build_record, write_record

from pipeline.transforms import AugmentBatch

ROOT = Path(__file__).resolve().parents[1]
GOAL = 1.5
MONAI, PEER = f"MONAI {metadata.version('monai')}, case by case", "batchgeneratorsv2 0.3.6"
#: Bundle, shape of a case as the loader gives it, cases in a batch
CASES = {
    "256 x 256 x 3": ("isic_unetpp", (3, 256, 256), 16),
    "192 x 192 x 9": ("lgg_attunet", (3, 192, 192, 3), 16),
    "48 x 64 x 48": ("hippocampus_segresnet", (1, 48, 64, 48), 2),
}


def read_steps(bundle: str) -> list[Any]:
    """Build the augmentation of a bundle's training."""
    config = ConfigParser()
    config.read_config(str(ROOT / f"bundles/{bundle}/configs/train.json"))
    return list(config.get_parsed_content("train#augmentation"))


def make_batch(shape: tuple[int, ...], count: int) -> dict[str, torch.Tensor]:
    """Make images of smooth noise and labels of a third of the pixels, as the loader gives them."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(count, *shape, generator=generator)
    return {"image": image.half(), "label": (image[:, :1] > 0.43).to(torch.uint8)}


def compare(steps: list[Any], batch: dict[str, torch.Tensor]) -> tuple[float, float]:
    """Return the mean difference of the images in standard deviations, and the part of the labels that is equal."""
    quiet = [step for step in steps if not isinstance(step, RandGaussianNoised)]
    ours, theirs = AugmentBatch(deepcopy(quiet)), Compose(deepcopy(quiet))
    ours.set_random_state(1)
    theirs.set_random_state(1)
    image, label = ours(batch, DEVICE)
    count = len(batch["image"])
    cases = [theirs({key: value[number].float() for key, value in batch.items()}) for number in range(count)]
    expected = {key: torch.stack([torch.as_tensor(case[key]).float() for case in cases]) for key in batch}
    difference = (image.cpu() - expected["image"]).abs().mean() / expected["image"].std()
    return float(difference), float((label.cpu() == expected["label"]).float().mean())


def make_peer(bundle: str) -> Callable[[dict[str, torch.Tensor]], Any] | None:
    """Build batchgeneratorsv2's steps; None where it is not installed."""
    try:
        from batchgeneratorsv2.transforms.intensity.brightness import (
            BrightnessAdditiveTransform,
            MultiplicativeBrightnessTransform,
        )
        from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
        from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
        from batchgeneratorsv2.transforms.noise.blank_rectangle import BlankRectangleTransform
        from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
        from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
        from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
        from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
        from batchgeneratorsv2.transforms.utils.random import RandomTransform
    except ImportError:
        return None

    def move(size: tuple[int, ...], prob: float, angle: float, scaling: float, padding: str) -> Any:
        return SpatialTransform(
            size,
            patch_center_dist_from_border=0,
            random_crop=False,
            p_rotation=prob,
            rotation=(-angle, angle),
            p_scaling=prob,
            scaling=(1 - scaling, 1 + scaling),
            p_synchronize_scaling_across_axes=0,
            mode_seg="nearest",
            border_mode_seg=padding,
            padding_mode_image=padding,
        )

    def sometimes(step: Any, prob: float) -> Any:
        return RandomTransform(step, apply_probability=prob)

    if bundle == "isic_unetpp":
        steps = [
            move((256, 256), 0.8, 0.79, 0.25, "reflection"),
            MirrorTransform((0, 1)),
            sometimes(MultiplicativeBrightnessTransform((0.75, 1.25), synchronize_channels=True), 0.5),
            sometimes(BrightnessAdditiveTransform(0, 0.15, synchronize_channels=False), 0.5),
            sometimes(BrightnessAdditiveTransform(0, 0.15, synchronize_channels=True), 0.5),
            sometimes(GaussianNoiseTransform((0, 0.1), synchronize_channels=True), 0.15),
            sometimes(GaussianBlurTransform((0.5, 1.5), synchronize_channels=True), 0.15),
            sometimes(BlankRectangleTransform(((16, 48), (16, 48)), (0.0, 1.0), (1, 4)), 0.2),
        ]
    elif bundle == "lgg_attunet":
        steps = [
            GammaTransform((0.6, 1.7), 0, synchronize_channels=False, p_per_channel=0.5, p_retain_stats=1),
            sometimes(MultiplicativeBrightnessTransform((0.7, 1.3), synchronize_channels=False), 0.5),
            sometimes(BrightnessAdditiveTransform(0, 0.17, synchronize_channels=False), 0.5),
            sometimes(GaussianNoiseTransform((0, 0.15), synchronize_channels=True), 0.2),
            sometimes(GaussianBlurTransform((0.5, 1.2), synchronize_channels=True), 0.15),
            move((192, 192), 0.7, 0.26, 0.15, "reflection"),
            MirrorTransform((1,)),
        ]
    else:
        steps = [
            MirrorTransform((0,)),
            move((48, 64, 48), 0.7, 0.25, 0.15, "border"),
            sometimes(MultiplicativeBrightnessTransform((0.8, 1.2), synchronize_channels=True), 0.5),
            sometimes(BrightnessAdditiveTransform(0, 0.12, synchronize_channels=True), 0.5),
            sometimes(GammaTransform((0.7, 1.5), 0, True, 1.0, 0), 0.3),
            sometimes(GaussianNoiseTransform((0, 0.1), synchronize_channels=True), 0.2),
            sometimes(GaussianBlurTransform((0.4, 0.9), synchronize_channels=True), 0.2),
        ]
    chain = ComposeTransforms(steps)

    def augment(batch: dict[str, torch.Tensor]) -> Any:
        images = batch["image"].float()
        if bundle == "lgg_attunet":  # its steps are for pictures: three slices as nine channels
            images = images.movedim(-1, 1).flatten(1, 2).contiguous()
        labels = batch["label"].float()
        labels = labels[..., 1].contiguous() if bundle == "lgg_attunet" else labels
        done = [chain(image=i, segmentation=s) for i, s in zip(images, labels, strict=True)]
        return [torch.stack([case[key] for case in done]) for key in ("image", "segmentation")]

    return augment


def measure(what: str, rounds: int) -> list[Row]:
    """Return the rows of one kind of image: milliseconds a sample of all sides."""
    bundle, shape, count = CASES[what]
    steps, batch = read_steps(bundle), make_batch(shape, count)
    ours, theirs, peer = AugmentBatch(steps), Compose(deepcopy(steps)), make_peer(bundle)
    batches = max(1, 32 // count)

    def run_monai() -> None:
        cases = [theirs({key: value[number] for key, value in batch.items()}) for number in range(count)]
        for key in batch:
            torch.stack([torch.as_tensor(case[key]) for case in cases])

    sides: dict[str, Callable[[], Any]] = {"ours": lambda: ours(batch, DEVICE), MONAI: run_monai}
    if peer is not None:
        sides[PEER] = lambda: peer(batch)
    for number, chain in enumerate((ours, theirs)):
        chain.set_random_state(number)
    turns = take_turns(sides, rounds, calls=batches)
    difference, equal = compare(read_steps(bundle), batch)
    accuracy = f"images differ from MONAI's by {difference:.1g} of their spread, labels equal {equal:.5f}"
    counts, own = difference <= 0.001 and equal >= 0.9995, turns.median("ours") / count * 1000
    rows, speed = [], f"{1000 / own:.0f} samples a second on {'a core' if DEVICE.type == 'cpu' else 'the GPU'}"
    for name, goal in ((PEER, GOAL), (MONAI, None)):
        if name not in sides:
            rows.append(Row(what, name, None, own, goal, note="not measured: batchgeneratorsv2 is not installed"))
            continue
        ratio, spread = turns.ratio(name, "ours")
        values = (turns.median(name) / count * 1000, own, goal, ratio, spread)
        rows.append(Row(what, name, *values, accuracy, counts, note=speed))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="how often each side is measured (default: 9)")
    parser.add_argument("--json", type=Path, help="write the record here too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for what in CASES:
        for row in measure(what, arguments.rounds):
            rows.append(row)
            measured = row.peer_value and f"{row.peer_value:.2f} ms, ratio {row.ratio:.2f}; {row.accuracy}; {row.note}"
            value = measured or row.note
            print(f"{what:<16}ours {row.ours:.2f} ms   {row.peer} {value}", flush=True)
    title, unit = "Augmentation of a sample", "ms of processor time"
    write_record(arguments.json, build_record("augmentation", title, unit, rows))


if __name__ == "__main__":
    main()
