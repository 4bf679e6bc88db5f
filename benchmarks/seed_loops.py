"""The plain training loops of the experiments that the bundles replace, beside the bundles with `origin.json`.

A plain loop is what those experiments ran: float32, files read by Pillow and resized in the loop, one process, plain
torch; the recipe (loss, optimiser, batch, augmentation) is that of `origin.json`. Both sides start from the same
weights of the same network, train on the same cases for the same number of epochs and samples, and are scored by the
plain loop's own validation: mean Dice of the cases (of a patient's slices together) at threshold 0.5, on the pixels
that it trains on. The bundle may be faster only if its Dice is at most 0.005 lower.

Seconds of the processor for training alone (on a GPU: of the clock, synchronised), the median of the epochs; validation
is left out on both sides. What the bundle does once, such as filling its cache, stands in the note. Without
``--dataset_dir`` a small synthetic dataset is made. ImageNet weights are left out on both sides.

Example:
    python benchmarks/seed_loops.py --bundles lgg_attunet --epochs 2 --cases 4 --seeds 0 1 --json seed_loops.json
"""

import argparse
import json
import random
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clocks import DEVICE, read_clock
from monai.bundle import ConfigParser, ConfigWorkflow
from PIL import Image
from records import Row, build_record, write_record
from torch.nn.functional import binary_cross_entropy_with_logits

from pipeline.datasets import load_datalist, phantoms
from pipeline.datasets.layouts import LAYOUTS
from pipeline.datasets.manifests.manifest_file import read_manifest, write_manifest
from pipeline.transforms import LoadCocoMaskd

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 0.005
Item = dict[str, Any]
Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Recipe:
    """What an experiment did."""

    size: int | None  #: side to which pictures are resized; None: as they are
    batch: int
    rate: float
    bce: float  #: weight of the cross-entropy
    dice: float  #: weight of the soft Dice loss
    smooth: float = 1.0
    per_image: bool = False  #: Dice of each image instead of the batch
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    rotate: float = 0.0  #: degrees
    scale: float = 0.0
    shift: float = 0.0  #: share of the side
    chance: float = 1.0  #: of rotation, scale and shift
    flip: float = 0.0
    holes: float = 0.0  #: chance of coarse dropout
    label_size: int | None = None  #: side of the centre that is labelled
    adamw: bool = False
    clip: float = 0.0


RECIPES = {
    "lgg_attunet": Recipe(None, 16, 1e-4, 0.0, 1.0, rotate=15, scale=0.05, flip=0.5),
    "isic_unetpp": Recipe(
        *(256, 8, 1e-3, 0.5, 0.5),
        per_image=True,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        rotate=10,
        scale=0.1,
        shift=0.02,
        chance=0.5,
        flip=0.5,
        holes=0.2,
        adamw=True,
        clip=1.0,
    ),
    "u373_unet": Recipe(572, 2, 1e-5, 1.0, 0.0, mean=(0.5,), std=(0.5,), label_size=388),
    "braintumor_unet": Recipe(256, 32, 1e-4, 0.4, 0.6, smooth=1e-5, per_image=True),
}
# Phantoms in sizes at which an epoch takes seconds.
PHANTOMS: dict[str, dict[str, Any]] = {
    "lgg_attunet": {"patients": 6, "size": 96},
    "isic_unetpp": {"images": 12, "size": 300},
    "u373_unet": {"frames": 6, "size": 400},
    "braintumor_unet": {"images": 12, "size": 300},
}


class Pictures(torch.utils.data.Dataset[Pair]):
    """Pictures with masks, read and resized each time."""

    def __init__(self, items: list[Item], recipe: Recipe, seed: int) -> None:
        self.items, self.recipe, self.random = items, recipe, random.Random(seed)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Pair:
        """Return a sample with augmentation."""
        image, label = self.read(self.items[index])
        return self.normalise(*self.augment(image, label))

    def read(self, item: Item) -> tuple[Image.Image, Image.Image]:
        """Return image and mask in the size of the network."""
        mode = "L" if len(self.recipe.mean) == 1 else "RGB"
        image, label = read_image(item["image"], mode), read_mask(item["label"])
        side = self.recipe.size
        if side is None:
            return image, label
        return image.resize((side, side), Image.Resampling.BILINEAR), label.resize(
            (side, side), Image.Resampling.NEAREST
        )

    def augment(self, image: Image.Image, label: Image.Image) -> tuple[Image.Image, Image.Image]:
        """Return both after the same random changes."""
        recipe, draw = self.recipe, self.random.uniform
        if recipe.rotate and draw(0, 1) < recipe.chance:
            angle, zoom = np.deg2rad(draw(-recipe.rotate, recipe.rotate)), 1 + draw(-recipe.scale, recipe.scale)
            shift = np.array([draw(-recipe.shift, recipe.shift) * side for side in image.size])
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
            centre = np.array(image.size) / 2
            back = centre - turn @ (centre + shift)
            matrix = (*turn[0], back[0], *turn[1], back[1])
            kind = Image.Transform.AFFINE
            image = image.transform(image.size, kind, matrix, Image.Resampling.BILINEAR)
            label = label.transform(label.size, kind, matrix, Image.Resampling.NEAREST)
        if draw(0, 1) < recipe.flip:
            image, label = (one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for one in (image, label))
        if draw(0, 1) < recipe.holes:
            for _ in range(self.random.randint(1, 8)):
                corner = [self.random.randrange(side - 32) for side in image.size]
                image.paste(0, (*corner, corner[0] + self.random.randint(8, 32), corner[1] + 32))
        return image, label

    def normalise(self, image: Image.Image, label: Image.Image) -> Pair:
        """Return tensors (C, H, W) and (1, H, W); the mask may be cropped to its centre."""
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.recipe.mean, self.recipe.std))
        pixels = torch.from_numpy(np.array(image, np.float32)).reshape(image.height, image.width, -1).permute(2, 0, 1)
        return (pixels / 255 - mean) / std, self.crop(torch.from_numpy(np.array(label, np.float32))[None])

    def crop(self, label: torch.Tensor) -> torch.Tensor:
        """Return the centre that the network labels."""
        side = self.recipe.label_size or label.shape[-1]
        top = (label.shape[-1] - side) // 2
        return label[..., top : top + side, top : top + side] if side < label.shape[-1] else label

    def list_cases(self) -> Iterator[list[Pair]]:
        """Yield the samples of each case without augmentation."""
        for item in self.items:
            yield [self.normalise(*self.read(item))]


class Slices(Pictures):
    """Slices of patients, drawn by their tumour's area; the statistics of a volume are taken once."""

    per_patient = 32

    def __init__(self, items: list[Item], recipe: Recipe, seed: int) -> None:
        super().__init__(items, recipe, seed)
        self.facts, self.weights = [], []
        for item in items:
            volume = np.stack([np.asarray(read_image([path], "RGB"), np.float32) for path in item["image"]])
            low, high = np.percentile(volume, (10, 99))
            scaled = np.clip((volume - low) / max(high - low, 1e-6), 0, 1)
            self.facts.append((low, high, scaled.mean((0, 1, 2)), scaled.std((0, 1, 2)) + 1e-6))
            areas = np.array([np.asarray(read_mask([path])).sum() for path in item["label"]], float)
            even = 1 / len(areas)
            self.weights.append(0.9 * areas / areas.sum() + 0.1 * even if areas.sum() else np.full(len(areas), even))

    def __len__(self) -> int:
        return self.per_patient * len(self.items)

    def __getitem__(self, index: int) -> Pair:
        """Return a slice of a random patient."""
        patient = self.random.randrange(len(self.items))
        (number,) = self.random.choices(range(len(self.weights[patient])), self.weights[patient])
        return self.take(patient, number, augmented=True)

    def take(self, patient: int, number: int, *, augmented: bool = False) -> Pair:
        """Return one slice."""
        item, (low, high, mean, std) = self.items[patient], self.facts[patient]
        image, label = read_image([item["image"][number]], "RGB"), read_mask([item["label"][number]])
        if augmented:
            image, label = self.augment(image, label)
        scaled = np.clip((np.asarray(image, np.float32) - low) / max(high - low, 1e-6), 0, 1)
        pixels = torch.from_numpy(((scaled - mean) / std).astype(np.float32)).permute(2, 0, 1)
        return pixels, torch.from_numpy(np.array(label, np.float32))[None]

    def list_cases(self) -> Iterator[list[Pair]]:
        """Yield all slices of each patient."""
        for patient, item in enumerate(self.items):
            yield [self.take(patient, number) for number in range(len(item["image"]))]


def read_image(paths: Any, mode: str) -> Image.Image:
    """Read a picture."""
    with Image.open(paths if isinstance(paths, str) else paths[0]) as image:
        return image.convert(mode)


def read_mask(paths: Any) -> Image.Image:
    """Read a mask; what is not background is 1."""
    path = paths if isinstance(paths, str) else paths[0]
    with Image.open(path) as image:
        pixels = np.asarray(image)
    return Image.fromarray((pixels > (127 if pixels.dtype == np.uint8 and pixels.max() > 127 else 0)).astype(np.uint8))


def compute_loss(recipe: Recipe, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Return the experiment's loss."""
    loss = recipe.bce * binary_cross_entropy_with_logits(logits, label)
    if recipe.dice:
        prob, axes = torch.sigmoid(logits), (1, 2, 3) if recipe.per_image else (0, 1, 2, 3)
        both, total = (prob * label).sum(axes), prob.sum(axes) + label.sum(axes)
        loss = loss + recipe.dice * (1 - (2 * both + recipe.smooth) / (total + recipe.smooth)).mean()
    return loss


def train_loop(network: torch.nn.Module, dataset: Pictures, epochs: int) -> list[float]:
    """Train as the experiment did; return seconds by epoch."""
    recipe = dataset.recipe
    if recipe.adamw:
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(network.parameters(), recipe.rate, weight_decay=1e-4)
    else:
        optimizer = torch.optim.Adam(network.parameters(), recipe.rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs) if recipe.adamw else None
    loader = torch.utils.data.DataLoader(dataset, recipe.batch, shuffle=True)
    seconds = []
    for _ in range(epochs):
        network.train()
        start = read_clock()
        for image, label in loader:
            optimizer.zero_grad()
            compute_loss(recipe, network(image.to(DEVICE)), label.to(DEVICE)).backward()  # type: ignore[no-untyped-call]
            if recipe.clip:
                torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
            optimizer.step()
        seconds.append(read_clock() - start)
        if scheduler:
            scheduler.step()
    return seconds


def score(network: torch.nn.Module, dataset: Pictures) -> float:
    """Return the mean Dice of the cases."""
    values = []
    network.eval()
    for pairs in dataset.list_cases():
        both = total = 0.0
        for image, label in pairs:
            with torch.no_grad():
                pred = (network(image[None].to(DEVICE)) > 0)[0].cpu()
            both, total = both + float((pred * label).sum()), total + float(pred.sum() + label.sum())
        values.append(2 * both / total if total else 1.0)
    return statistics.mean(values)


def train_bundle(bundle: str, values: Item, weights: Item) -> tuple[torch.nn.Module, list[float], float]:
    """Train the bundle with the origin's recipe; return network, seconds by epoch and those of the preparation."""
    configs = ROOT / "bundles" / bundle / "configs"
    files = [str(configs / name) for name in ("train.json", "origin.json")]
    start, seconds = read_clock(), []
    workflow = ConfigWorkflow(files, workflow_type="train", logging_file=False, **values)
    workflow.initialize()
    network: torch.nn.Module = workflow.parser.get_parsed_content("network")
    network.load_state_dict(weights)
    trainer = workflow.parser.get_parsed_content("train#trainer")
    # Before all other handlers, so that validation, which is one of them, is not part of an epoch.
    events = {"EPOCH_STARTED": [], "EPOCH_COMPLETED": []}
    for event, times in events.items():
        trainer.add_event_handler(event, lambda _, times=times: times.append(read_clock()))
        trainer._event_handlers[event].insert(0, trainer._event_handlers[event].pop())
    prepared = read_clock() - start
    workflow.run()
    seconds = [end - begin for begin, end in zip(*events.values(), strict=True)]
    return network, seconds, prepared


def prepare_data(bundle: str, args: argparse.Namespace, folder: Path) -> tuple[Path, Path]:
    """Return the folder of the data and a manifest with at most ``--cases`` training and validation cases each."""
    if args.dataset_dir:
        manifest, root = args.manifest or ROOT / f"bundles/{bundle}/configs/manifest.json", args.dataset_dir.absolute()
    else:
        phantom = json.loads((ROOT / f"bundles/{bundle}/configs/metadata.json").read_text())["phantom"]
        manifest = getattr(phantoms, LAYOUTS[phantom["layout"]].phantom)(folder / "phantom", **PHANTOMS[bundle])
        manifest = manifest.with_name(phantom.get("manifest", manifest.name))
        (root,) = (path for path in manifest.parent.iterdir() if path.is_dir())
    fold = json.loads((ROOT / f"bundles/{bundle}/configs/train.json").read_text())["fold"]
    whole, chosen = read_manifest(manifest), []
    for split in ("train", "val"):
        known = load_datalist(manifest, root, split, fold, check=False, allow_missing=True)  # type: ignore[arg-type]
        names = {item["case_id"] for item in known[: args.cases]}
        cases = [replace(case, split=split, fold=None) for case in whole.cases if case.case_id in names]
        # A named split may divide a film by time; as parts of a manifest its frames must not share a subject.
        chosen += [replace(case, subject=case.case_id) if isinstance(fold, str) else case for case in cases]
    write_manifest(replace(whole, cases=tuple(chosen), named_splits={}), folder / "manifest.json")
    return folder / "manifest.json", root


def load_items(manifest: Path, root: Path, split: str, folder: Path) -> list[Item]:
    """Return the cases of a split; masks that are drawn from annotations are drawn into files once."""
    items = load_datalist(manifest, root, split, None, check=False)  # type: ignore[arg-type]
    for item in items if ".json#" in str(items[0]["label"]) else ():
        drawn = LoadCocoMaskd("label", manifest=str(manifest), reverse_indexing=False)(dict(item))["label"]
        path = folder / f"{split}_{item['case_id'].replace('/', '_')}.png"
        Image.fromarray(np.asarray(drawn).reshape(drawn.shape[-2:]).astype(np.uint8)).save(path)
        item["label"] = [str(path)]
    return items


def compare(bundle: str, seed: int, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train both sides; return seconds an epoch, Dice, and facts."""
    manifest, root = prepare_data(bundle, args, folder)
    kind = Slices if bundle.startswith("lgg") else Pictures
    parts = {
        split: kind(load_items(manifest, root, split, folder), RECIPES[bundle], seed) for split in ("train", "val")
    }
    bundle_root = ROOT / "bundles" / bundle
    values = {"bundle_root": str(bundle_root), "dataset_dir": str(root), "manifest": str(manifest), "fold": None}
    values |= {"max_epochs": args.epochs, "val_interval": args.epochs, "seed": seed}
    values |= {"output_dir": str(folder / "output"), **({"encoder_weights": None} if bundle == "isic_unetpp" else {})}
    parser = ConfigParser()
    parser.read_config([str(bundle_root / "configs" / name) for name in ("train.json", "origin.json")])
    parser.update(values)
    torch.manual_seed(seed)
    network = parser.get_parsed_content("network")
    start = {key: value.clone() for key, value in network.state_dict().items()}
    seconds = train_loop(network, parts["train"], args.epochs)
    ours, our_seconds, prepared = train_bundle(bundle, values, start)
    return {
        "theirs": statistics.median(seconds),
        "ours": statistics.median(our_seconds),
        "dice": (score(network, parts["val"]), score(ours, parts["val"])),
        "prepared": prepared,
        "samples": len(parts["train"]),
        "cases": len(parts["val"].items),
    }


def make_row(bundle: str, found: list[dict[str, Any]], args: argparse.Namespace) -> Row:
    """Return the row of a bundle."""
    theirs, ours = (statistics.mean(one["dice"][side] for one in found) for side in (0, 1))
    samples, cases = found[0]["samples"], found[0]["cases"]
    ratios = [one["theirs"] / one["ours"] for one in found]
    data = args.dataset_dir.name if args.dataset_dir else "phantom"
    epochs = f"{args.epochs} epoch{'s' * (args.epochs > 1)}"
    return Row(
        f"{bundle}, {data}, {samples} samples an epoch",
        "plain float32 loop",
        statistics.median(one["theirs"] for one in found),
        statistics.median(one["ours"] for one in found),
        goal=2.5 if bundle == "lgg_attunet" else None,
        ratio=statistics.median(ratios),
        spread=(min(ratios), max(ratios)) if len(ratios) > 1 else None,
        accuracy=f"Dice after {epochs} {ours:.3f}, the loop's {theirs:.3f} (not lower by more than {TOLERANCE}); "
        f"{cases} cases, {len(found)} seed{'s' * (len(found) > 1)}",
        counts=ours >= theirs - TOLERANCE,
        note=f"once: {statistics.median(one['prepared'] for one in found):.0f} s to check, fill the cache and start",
    )


def main() -> None:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--dataset_dir", type=Path, help="real data, for one bundle (default: a phantom)")
    parser.add_argument("--manifest", type=Path, help="manifest of the real data (default: the bundle's)")
    parser.add_argument("--cases", type=int, default=4, help="training cases, and as many for validation (default: 4)")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--json", type=Path, help="write the record here too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for bundle in args.bundles:
        found = []
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as folder:
                found.append(compare(bundle, seed, args, Path(folder)))
        rows.append(make_row(bundle, found, args))
        row = rows[-1]
        print(f"{row.what}: loop {row.peer_value:.2f} s, bundle {row.ours:.2f} s an epoch, ratio {row.ratio:.2f}")
        print(f"  {row.accuracy}; {row.note}", flush=True)
    unit = "s of processor time an epoch" if DEVICE.type == "cpu" else "s an epoch"
    title = f"The originals' training loop beside {', '.join(args.bundles)}"
    write_record(args.json, build_record("seed_loops", title, unit, rows))


if __name__ == "__main__":
    main()
