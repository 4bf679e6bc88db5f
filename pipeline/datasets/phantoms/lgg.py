"""A small synthetic dataset in the layout of the Kaggle set `mateuszbuda/lgg-mri-segmentation`."""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest_file import write_manifest
from pipeline.datasets.phantoms.fields import Field, draw_smooth_noise
from pipeline.datasets.phantoms.head import SEQUENCES, Head, draw_head, render_head
from pipeline.datasets.splits.splits import split_manifest
from pipeline.issues import InputError

INSTITUTIONS = ("CS", "DU", "FG", "HT")
MIN_PATIENTS, MAX_PATIENTS = 3, 999
MIN_SLICES, MAX_SLICES = 8, 20
MIN_SIZE, MAX_SIZE = 32, 1024
MAX_FOLDS = 4
DATA_CSV_HEADER = (
    "Patient,RNASeqCluster,MethylationCluster,miRNACluster,CNCluster,RPPACluster,OncosignCluster,COCCluster,"
    "histological_type,neoplasm_histologic_grade,tumor_tissue_site,laterality,tumor_location,gender,"
    "age_at_initial_pathologic,race,ethnicity,death01"
)


@dataclass(frozen=True)
class Scan:
    """How the machine changes what it sees: one gain, gamma for each sequence, bias field, noise, missing sequence."""

    gain: tuple[float, ...]
    gamma: tuple[float, ...]
    bias: float
    noise: float
    missing: str = ""


def write_lgg_phantom(root: str | Path, *, patients: int = 12, seed: int = 0, size: int = 256) -> Path:
    """Write synthetic patients, their manifest and the truth they were made from.

    Every patient has 8 to 20 slices with one or two lesions, which span neighbouring slices and never the first or last
    one. Of every ten patients one lacks the pre-contrast and another the post-contrast sequence: FLAIR stands in for
    it, as in the real set. The same arguments give the same bytes.

    Args:
        root: folder to write to; gets ``kaggle_3m/`` (images, masks, ``data.csv``), ``manifest.json`` and
            ``truth.json``.
        patients: number of patients, at least 3: one to train, to validate and to test.
        seed: seed of everything that is random, not negative.
        size: height and width of a slice, in pixels; the real ones have 256.

    Returns:
        Path of the manifest.

    Raises:
        InputError: ``patients``, ``seed`` or ``size`` is out of range, or ``root`` cannot be written or is in use.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> write_lgg_phantom(folder, patients=3, size=32).name
        'manifest.json'
    """
    if not MIN_PATIENTS <= patients <= MAX_PATIENTS:
        raise InputError(f"patients must be {MIN_PATIENTS} to {MAX_PATIENTS}, got {patients}")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise InputError(f"size must be {MIN_SIZE} to {MAX_SIZE} pixels, got {size}")
    if seed < 0:
        raise InputError(f"seed must not be negative, got {seed}")
    root = Path(root)
    source = _make_folder(root / "kaggle_3m")
    missing = _draw_missing(np.random.default_rng([seed, patients]), patients)
    truth = {}
    for index in range(patients):
        rng = np.random.default_rng([seed, index])
        name = _name_patient(index)
        truth[name] = _write_patient(source / name, rng, size=size, missing=missing[index])
    rows = [DATA_CSV_HEADER, *(name.rsplit("_", 1)[0] + "," * DATA_CSV_HEADER.count(",") for name in truth)]
    (source / "data.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    record = {"seed": seed, "size": size, "sequences": SEQUENCES, "patients": truth}
    (root / "truth.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return _write_manifest(source, root / "manifest.json", seed)


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"{folder} exists already; remove it or choose another folder") from None
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from None
    return folder


def _name_patient(index: int) -> str:
    institution = INSTITUTIONS[index % len(INSTITUTIONS)]
    day = datetime.date(2000, 1, 1) + datetime.timedelta(days=7 * index)
    return f"TCGA_{institution}_P{index + 1:03d}_{day:%Y%m%d}"


def _draw_missing(rng: np.random.Generator, patients: int) -> list[str]:
    """Choose who lacks which sequence; small sets are complete."""
    count = patients // 10
    names = ["pre-contrast"] * count + ["post-contrast"] * count
    names += [""] * (patients - len(names))
    return [names[index] for index in rng.permutation(patients)]


def _write_patient(folder: Path, rng: np.random.Generator, *, size: int, missing: str) -> dict[str, Any]:
    slices = int(rng.integers(MIN_SLICES, MAX_SLICES + 1))
    head = draw_head(rng, slices=slices)
    signal, shares = render_head(head, slices=slices, size=size)
    scan = _draw_scan(rng, missing)
    image = _scan(signal, scan, rng)
    mask = (np.max(shares, axis=0) > 0.5).astype(np.uint8) * 255
    # The real stacks begin and end outside the tumour; irregular borders must not reach there by chance.
    mask[[0, -1]] = 0
    folder.mkdir()
    for k in range(slices):
        Image.fromarray(image[k]).save(folder / f"{folder.name}_{k + 1}.tif")
        Image.fromarray(mask[k]).save(folder / f"{folder.name}_{k + 1}_mask.tif")
    return _describe(head, scan, mask, shares)


def _draw_scan(rng: np.random.Generator, missing: str) -> Scan:
    return Scan(
        gain=tuple(rng.uniform(0.55, 1.0, size=3).tolist()),
        gamma=tuple(rng.uniform(0.85, 1.2, size=3).tolist()),
        bias=float(rng.uniform(0.06, 0.16)),
        noise=float(rng.uniform(0.008, 0.022)),
        missing=missing,
    )


def _scan(signal: Field, scan: Scan, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn a noise-free signal (3, D, H, W) into slices (D, H, W, 3) of bytes."""
    slices, height, width = signal.shape[1:]
    gain, gamma = (np.array(v, dtype=np.float32).reshape(3, 1, 1, 1) for v in (scan.gain, scan.gamma))
    bias = np.exp(scan.bias * draw_smooth_noise(rng, (slices, height, width), (2, 2, 2)))
    clean = np.clip(signal, 0, None) ** gamma * bias
    # The magnitude of a complex signal: noise lifts the dark background, as in MR.
    noise = rng.standard_normal((2, *signal.shape), dtype=np.float32) * np.float32(scan.noise)
    voxels = gain * np.hypot(clean + noise[0], noise[1])
    if scan.missing:
        voxels[SEQUENCES.index(scan.missing)] = voxels[SEQUENCES.index("FLAIR")]
    pixels: NDArray[np.uint8] = np.clip(np.rint(voxels * 235), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(pixels, 0, -1))


def _describe(head: Head, scan: Scan, mask: NDArray[np.uint8], shares: list[Field]) -> dict[str, Any]:
    lesions = []
    for lesion, share in zip(head.lesions, shares, strict=True):
        inside = (share > 0.5) & (mask > 0)
        centre = ndimage.center_of_mass(inside) if inside.any() else ()
        lesions.append(
            {
                "voxels": int(inside.sum()),
                "centre_slice_row_column": [round(float(c), 1) for c in centre],
                "slices": [int(k) + 1 for k in np.flatnonzero(inside.any(axis=(1, 2)))],
                "parameters": asdict(lesion),
            }
        )
    return {"slices": len(mask), "voxels": int((mask > 0).sum()), "scan": asdict(scan), "lesions": lesions}


def _write_manifest(source: Path, target: Path, seed: int) -> Path:
    """Deal the patients into a test set of about a quarter and folds, and write the manifest."""
    manifest = replace(
        read_layout("lgg", source).manifest,
        name="lgg_phantom",
        licence="CC0-1.0 (synthetic)",
        source="synthetic, written by `python -m pipeline dataset phantom lgg`",
        citations=(),
    )
    ids = [case.case_id for case in manifest.cases]
    count = max(1, round(len(ids) / 4))
    test_ids = [ids[index] for index in np.random.default_rng([seed, len(ids), 1]).permutation(len(ids))[:count]]
    folds = min(MAX_FOLDS, len(ids) - count)
    return write_manifest(split_manifest(manifest, folds=folds, seed=seed, test_ids=test_ids), target)
