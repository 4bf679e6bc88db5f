"""The reference case of a packed bundle: a synthetic input, and what the weights made of it at home."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bundle.config_failures import explain_failure
from pipeline.bundle.config_files import INFERENCE, METADATA, read_config
from pipeline.bundle.monai_import import import_monai
from pipeline.bundle.overrides.literals import make_literal
from pipeline.bundle.packing.travelling_files import WEIGHTS
from pipeline.datasets import phantoms
from pipeline.datasets.layouts import LAYOUTS
from pipeline.datasets.manifests.manifest_file import read_manifest
from pipeline.issues import InputError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

#: Largest difference of a probability between here and home. Other processors and versions of torch round differently,
#: and the expected ones are kept with 8 bits, which round by 0.002 at most.
TOLERANCE = 0.01
FOLDER = "reference"
INPUT, EXPECTED, DESCRIPTION = f"{FOLDER}/input", f"{FOLDER}/expected.safetensors", f"{FOLDER}/reference.json"
_SEED, _STEPS = 0, 255
# A phantom is tried in several sizes, relative to that in the metadata, until the network finds something in it.
_SCALES, _CASES = (1.5, 2.0), 2
_PARTS = ("to_probabilities", "refine", "save", "evaluator", "output_dir", "checkpoint")
_KEEP = {"_target_": "CopyItemsd", "keys": "pred", "names": "probabilities"}


def find_obstacle(bundle: Path) -> str:
    """Return why a bundle can have no reference case; "" if it can.

    Args:
        bundle: its folder.
    """
    if not (bundle / WEIGHTS).is_file():
        return f"there are no weights in {WEIGHTS}"
    config = read_config(bundle, INFERENCE, optional=True)
    missing = [name for name in _PARTS if name not in config]
    if missing:
        return f"configs/{INFERENCE} has no {missing[0]}"
    phantom = read_config(bundle, METADATA, optional=True).get("phantom")
    layout = LAYOUTS.get(str(phantom.get("layout"))) if isinstance(phantom, dict) else None
    if layout is None or not layout.phantom:
        return f"configs/{METADATA} names no phantom, such as {{'layout': 'isic', 'options': {{'images': 8}}}}"
    return ""


def write_reference(bundle: Path) -> None:
    """Write the reference case of a bundle: its input, labels and probabilities.

    Of the candidates the first one is taken in which the network finds something, or else the last one.

    Args:
        bundle: its folder, for which `find_obstacle` found nothing.

    Raises:
        InputError: the phantom cannot be written, or the bundle cannot predict it.
    """
    import safetensors.numpy

    with tempfile.TemporaryDirectory() as folder:
        phantom, found = _choose(bundle, Path(folder))
    (bundle / EXPECTED).write_bytes(safetensors.numpy.save(found))
    text = json.dumps(_describe(phantom, found["labels"]), indent=1) + "\n"
    (bundle / DESCRIPTION).write_text(text, encoding="utf-8", newline="\n")


def _choose(bundle: Path, folder: Path) -> tuple[dict[str, Any], dict[str, "Array"]]:
    """Put a candidate into the bundle; return what it was made with, and what the bundle predicts."""
    made: dict[str, Any] = {}
    found: dict[str, Array] = {}
    for candidate, made in _write_candidates(read_config(bundle, METADATA)["phantom"], folder):  # noqa: B007 - used below
        shutil.rmtree(bundle / INPUT, ignore_errors=True)
        shutil.copytree(candidate, bundle / INPUT)
        found = _quantise(predict(bundle))
        if found["labels"].any():
            break
    return made, found


def _write_candidates(phantom: Mapping[str, Any], folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield folders with the images of one case of a phantom, and what the phantom was made with."""
    options = phantom.get("options", {})
    write = getattr(phantoms, LAYOUTS[phantom["layout"]].phantom)
    for scale in _SCALES if "size" in options else _SCALES[:1]:
        made = {**options, **({"size": int(options["size"] * scale)} if "size" in options else {}), "seed": _SEED}
        dataset = folder / f"{scale}"
        cases = read_manifest(write(dataset, **made)).cases
        (root,) = (path for path in dataset.iterdir() if path.is_dir())
        tested = [case for case in cases if case.split == "test"] or list(cases)
        for case in tested[:_CASES]:
            target = folder / f"{scale}_{case.case_id.replace('/', '_')}"
            _copy_images(root, case.image, target)
            yield target, {"layout": phantom["layout"], "options": made, "case": case.case_id}


def _copy_images(root: Path, images: Sequence[str], folder: Path) -> None:
    for image in images:
        # The slices of a patient lie in the patient's folder.
        target = folder / (Path(image).parent.name if len(images) > 1 else "") / Path(image).name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (root / image).is_dir() else shutil.copyfile)(root / image, target)


def _quantise(found: Mapping[str, "Array"]) -> dict[str, "Array"]:
    import numpy as np

    labels = found["labels"]
    steps = np.round(np.clip(found["probabilities"], 0, 1) * _STEPS)
    return {
        "labels": labels.astype(np.uint8 if labels.max() < 256 else np.uint16),
        "probabilities": steps.astype(np.uint8),
    }


def _describe(phantom: Mapping[str, Any], labels: "Array") -> dict[str, Any]:
    import numpy as np

    values, counts = np.unique(labels, return_counts=True)
    return {
        "input": "synthetic, made by pipeline.datasets.phantoms; no rights are reserved (CC0-1.0)",
        "phantom": dict(phantom),
        "computed": f"by configs/{INFERENCE} on the CPU, without mixed precision",
        "shape": list(labels.shape),
        "voxels_by_label": {str(value): int(count) for value, count in zip(values, counts, strict=True)},
        "probabilities": f"of {_STEPS}",
        "tolerance_of_probabilities": TOLERANCE,
    }


def predict(bundle: Path) -> dict[str, "Array"]:
    """Return the labels and the probabilities of the reference case, by the bundle's own ``inference.json``.

    Its config runs, so it must be one's own, or audited.

    Args:
        bundle: its folder, with the input in ``reference/input``.

    Raises:
        InputError: the config cannot be built or run; one line with the cause.
    """
    import_monai()
    import numpy as np
    import torch
    from ignite.engine import Events
    from monai.bundle import ConfigParser

    config = read_config(bundle, INFERENCE)
    found: list[dict[str, Array]] = []

    def keep(engine: Any) -> None:
        for item in engine.state.output:
            values = {"labels": item["pred"], "probabilities": item["probabilities"]}
            found.append({name: np.asarray(torch.as_tensor(value).cpu()) for name, value in values.items()})

    failed = f"{bundle / 'configs' / INFERENCE} cannot predict the reference case"
    hint = f"see python -m pipeline bundle check {bundle}"
    with tempfile.TemporaryDirectory() as folder, explain_failure(failed, hint):
        parser = ConfigParser({**config, **_make_overrides(config, bundle.resolve(), Path(folder))})
        evaluator = parser.get_parsed_content("evaluator")
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, keep)
        evaluator.run()
    if len(found) != 1:
        raise InputError(f"{bundle / INPUT}: expected one case, found {len(found)}; unpack the bundle again")
    return found[0]


def _make_overrides(config: Mapping[str, Any], bundle: Path, folder: Path) -> dict[str, Any]:
    """Return what differs from the receiver's command: nothing is saved, everything is exact."""
    values = {
        "bundle_root": make_literal(str(bundle)),
        "input": make_literal(str(bundle / INPUT)),
        "output_dir": make_literal(str(folder / "predictions")),
        "checkpoint": make_literal(str(bundle / WEIGHTS)),
        "device": "$torch.device('cpu')",
        "amp": False,
        "overlay": False,
    }
    known = {name: value for name, value in values.items() if name in config}
    return {**known, "refine": [_KEEP, *config["refine"]], "save": []}


def compare_reference(bundle: Path) -> str:
    """Compute the reference case and compare it with what the sender got.

    Args:
        bundle: its folder, audited.

    Returns:
        The result in words.

    Raises:
        InputError: there is no reference case, it cannot be computed, a label differs, or a probability differs by more
            than `TOLERANCE`.
    """
    import numpy as np
    import safetensors.numpy

    if not (bundle / EXPECTED).is_file():
        raise InputError(f"{bundle} has no reference case: there is no {EXPECTED}; leave out --reference")
    expected = safetensors.numpy.load_file(bundle / EXPECTED)
    if not (bundle / WEIGHTS).is_file():
        raise InputError(f"{bundle} has no {WEIGHTS}; {_suggest_download(bundle)}")
    found = predict(bundle)
    for name in ("labels", "probabilities"):
        if name not in expected or expected[name].shape != found[name].shape:
            raise InputError(f"reference case: {name} are {found[name].shape}, not as in {EXPECTED}; ask the sender")
    size = found["labels"].size
    wrong = int(np.count_nonzero(found["labels"] != expected["labels"]))
    farthest = float(np.abs(found["probabilities"] - expected["probabilities"] / _STEPS).max())
    number = f"probabilities differ by up to {farthest:.4f} (tolerance {TOLERANCE:g})"
    if wrong or not farthest <= TOLERANCE:
        hint = "compare your versions with requirements.txt in the bundle, or ask the sender"
        raise InputError(f"reference case: {wrong} of {size} voxels have other labels, {number}; {hint}")
    return f"reference case: all {size} voxels have the sender's labels; {number}"


def _suggest_download(bundle: Path) -> str:
    listed = (bundle / "large_files.yml").is_file()
    command = f"python -m monai.bundle download_large_files --bundle_path {bundle}"
    return f"download it: {command}" if listed else "unpack the bundle again"
