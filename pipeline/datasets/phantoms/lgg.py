"""A small synthetic dataset in the layout of the Kaggle set `mateuszbuda/lgg-mri-segmentation`."""

import datetime
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipeline.datasets.phantoms.fields import Field, draw_smooth_noise, to_bytes
from pipeline.datasets.phantoms.head import SEQUENCES, Head, draw_head, render_head
from pipeline.datasets.phantoms.phantom_files import finish_phantom, read_phantom, split_phantom, start_phantom

INSTITUTIONS = ("CS", "DU", "FG", "HT")
MIN_SLICES, MAX_SLICES = 8, 20
DATA_CSV_HEADER = (
    "Patient,RNASeqCluster,MethylationCluster,miRNACluster,CNCluster,RPPACluster,OncosignCluster,COCCluster,"
    "histological_type,neoplasm_histologic_grade,tumor_tissue_site,laterality,tumor_location,gender,"
    "age_at_initial_pathologic,race,ethnicity,death01"
)


@dataclass(frozen=True)
class Scan:
    """Effects of the scanner: gain and gamma of each sequence, bias field, noise, missing sequence."""

    gain: tuple[float, ...]
    gamma: tuple[float, ...]
    bias: float
    noise: float
    missing: str = ""


def write_lgg_phantom(root: str | Path, *, patients: int = 12, seed: int = 0, size: int = 256) -> Path:
    """Write synthetic patients, their manifest and the truth.

    Every patient has 8 to 20 slices with one or two lesions, which span neighbouring slices and never the first or last
    one. One of every ten patients lacks the pre-contrast and another the post-contrast sequence: FLAIR replaces it, as
    in the real set.

    Args:
        root: folder to write to; gets ``kaggle_3m/`` (images, masks, ``data.csv``), ``manifest.json`` and
            ``truth.json``.
        patients: number of patients, 3 to 999.
        seed: random seed, not negative.
        size: height and width of a slice in pixels, 32 to 1024; the real ones have 256.
    """
    source = start_phantom(root, "kaggle_3m", patients=(patients, 3, 999), size=(size, 32, 1024), seed=seed)
    missing = _draw_missing(np.random.default_rng([seed, patients]), patients)
    truth = {}
    for index in range(patients):
        rng = np.random.default_rng([seed, index])
        name = _name_patient(index)
        truth[name] = _write_patient(source / name, rng, size=size, missing=missing[index])
    rows = [DATA_CSV_HEADER, *(name.rsplit("_", 1)[0] + "," * DATA_CSV_HEADER.count(",") for name in truth)]
    (source / "data.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    manifest = split_phantom(read_phantom("lgg", source), seed)
    return finish_phantom(source, manifest, seed=seed, size=size, sequences=SEQUENCES, patients=truth)


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
    scan = Scan(
        gain=tuple(rng.uniform(0.55, 1.0, size=3).tolist()),
        gamma=tuple(rng.uniform(0.85, 1.2, size=3).tolist()),
        bias=float(rng.uniform(0.06, 0.16)),
        noise=float(rng.uniform(0.008, 0.022)),
        missing=missing,
    )
    image = _scan(signal, scan, rng)
    mask = (np.max(shares, axis=0) > 0.5).astype(np.uint8) * 255
    # The real stacks begin and end outside the tumour; irregular borders must not reach there by chance.
    mask[[0, -1]] = 0
    folder.mkdir()
    for k in range(slices):
        Image.fromarray(image[k]).save(folder / f"{folder.name}_{k + 1}.tif")
        Image.fromarray(mask[k]).save(folder / f"{folder.name}_{k + 1}_mask.tif")
    return _describe(head, scan, mask, shares)


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
    return np.ascontiguousarray(np.moveaxis(to_bytes(voxels * 235), 0, -1))


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
