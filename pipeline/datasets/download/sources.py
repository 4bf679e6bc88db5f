"""The table of public datasets that can be downloaded, or fetched by hand where a login is needed.

Addresses and checksums come from the public sources named in ``evidence``. The authors could not try them, so every
archive has ``verified=False``. An archive without a published checksum is trusted on first use: its sha256 is recorded
beside the data, so that a second lab can compare.
"""

from dataclasses import dataclass
from typing import Any

from pipeline.issues import InputError

_ISIC = "https://isic-archive.s3.amazonaws.com/challenges/2018/"
_ISIC_OLD = "https://isic-challenge-data.s3.amazonaws.com/2018/"
_TORCH_EM = "torch-em's table of checksums"


@dataclass(frozen=True)
class Archive:
    """A zip or tar file of a source."""

    file: str  #: its name on disk, unique within the source and on a mirror (``--url-base``)
    urls: tuple[str, ...]  #: addresses of the same file, the preferred one first
    folder: str  #: its top folder
    sha256: str = ""  #: expected digest; empty if unknown
    md5: str = ""  #: expected digest where only that is published; empty if unknown
    size: int | None = None  #: bytes, as others measured them; for planning only, the checksum decides
    expansion: float = 1.1  #: bytes unpacked per byte of the archive, estimated; unpacking stops at ten times that
    evidence: str = ""  #: publisher of the checksum
    verified: bool = False  #: whether the authors downloaded the file and compared

    def describe_checksum(self) -> str:
        """Return how far a matching checksum can be trusted, in words."""
        if self.verified:
            return "equals the checksum that the authors verified"
        if self.sha256 or self.md5:
            kind = "sha256" if self.sha256 else "md5"
            return f"its {kind} is the one in {self.evidence} (not verified by us)"
        return "no checksum is published (not verified by us)"

    def describe_expected(self) -> str:
        """Return the expected checksum and its evidence."""
        return f"{self.sha256 or 'md5 ' + self.md5} ({self.evidence})"


@dataclass(frozen=True)
class Source:
    """A dataset and its origin."""

    name: str  #: word to type
    title: str  #: description
    layout: str  #: layout for ``dataset build``
    licence: str  #: terms of use
    page: str  #: page of the dataset, with the requested citation
    root: str = ""  #: the folder that ``dataset build`` reads, relative to the download's folder
    archives: tuple[Archive, ...] = ()  #: files to fetch; empty where a login is needed
    #: steps by hand instead; ``{out}`` is the folder, ``{root}`` the dataset's root in it
    instructions: tuple[str, ...] = ()

    @property
    def size(self) -> int | None:
        """Bytes to download, or None if the size of an archive is not known."""
        sizes = [archive.size for archive in self.archives if archive.size is not None]
        return sum(sizes) if sizes and len(sizes) == len(self.archives) else None


def _isic(stem: str, size: int, sha256: str) -> Archive:
    file = f"{stem}.zip"
    evidence = f"{_TORCH_EM} and one further public repository"
    return Archive(file, (_ISIC + file, _ISIC_OLD + file), stem, sha256, size=size, evidence=evidence)


def _cell_tracking(
    name: str, folder: str, sha256: str, *, title: str = "", part: str = "training", more: str = "", **planning: Any
) -> Source:
    file = f"{folder}-challenge.zip" if part == "test" else f"{folder}.zip"
    url = f"https://data.celltrackingchallenge.net/{part}-datasets/{folder}.zip"
    archive = Archive(file, (url,), folder, sha256, evidence=_TORCH_EM + more, **planning)
    return Source(
        name=name,
        title=title or f"{folder}, two annotated films of the Cell Tracking Challenge",
        layout="cell_tracking",
        licence="conditions of the Cell Tracking Challenge: scientific use, acknowledge and cite Maska et al. 2023",
        page="https://celltrackingchallenge.net/2d-datasets/",
        root=folder,
        archives=(archive,),
    )


def _kaggle(slug: str, last_step: str, **fields: Any) -> Source:
    steps = (
        "Log in at https://www.kaggle.com (the account is free) and open {page}.",
        "Click Download and unpack the zip into {out}. Or, with a Kaggle token: pip install kaggle, then"
        f" kaggle datasets download -d {slug} -p {{out}} --unzip",
        last_step,
    )
    return Source(page=f"https://www.kaggle.com/datasets/{slug}", instructions=steps, **fields)


# The other two-dimensional training sets of the same challenge, all in the same layout.
_CELL_TRACKING = (
    ("BF-C2DL-HSC", "0aa68ec37a9b06e72a5dfa07d809f56e1775157fb674bb75ff904936149657b1"),
    ("BF-C2DL-MuSC", "ca72b59042809120578a198ba236e5ed3504dd6a122ef969428b7c64f0a5e67d"),
    ("DIC-C2DH-HeLa", "832fed2d05bb7488cf9c51a2994b75f8f3f53b3c3098856211f2d39023c34e1a"),
    ("Fluo-C2DL-Huh7", "1912658c1b3d8b38b314eb658b559e7b39c256917150e9b3dd8bfdc77347617d"),
    ("Fluo-C2DL-MSC", "a083521f0cb673ae02d4957c5e6580c2e021943ef88101f6a2f61b944d671af2"),
    ("Fluo-N2DH-GOWT1", "1a7bd9a7d1d10c4122c7782427b437246fb69cc3322a975485c04e206f64fc2c"),
    ("Fluo-N2DH-SIM+", "3e809148c87ace80c72f563b56c35e0d9448dcdeb461a09c83f61e93f5e40ec8"),
    ("Fluo-N2DL-HeLa", "35dd99d58e071aba0b03880128d920bd1c063783cc280f9531fbdc5be614c82e"),
    ("PhC-C2DL-PSC", "9d54bb8febc8798934a21bf92e05d92f5e8557c87e28834b2832591cdda78422"),
)
_TABLE = (
    Source(
        name="isic2018",
        title="ISIC 2018 Task 1: skin lesions, 2,594 / 100 / 1,000 images with masks",
        layout="isic",
        licence="CC BY-NC 4.0 (LICENSE.txt beside the images decides)",
        page="https://challenge.isic-archive.com/data/#2018",
        archives=tuple(
            _isic(f"ISIC2018_Task1{stem}", size, sha256)
            for stem, size, sha256 in (
                ("-2_Training_Input", 11165358566, "80f98572347a2d7a376227fa9eb2e4f7459d317cb619865b8b9910c81446675f"),
                ("_Training_GroundTruth", 27402895, "99f8b2bb3c4d6af483362010715f7e7d5d122d9f6c02cac0e0d15bef77c7604c"),
                ("-2_Validation_Input", 239231159, "0ea920fcfe512d12a6e620b50b50233c059f67b10146e1479c82be58ff15a797"),
                ("_Validation_GroundTruth", 759706, "f6911e9c0a64e6d687dd3ca466ca927dd5e82145cb2163b7a1e5b37d7a716285"),
                ("-2_Test_Input", 2370457338, "e59ae1f69f4ed16f09db2cb1d76c2a828487b63d28f6ab85997f5616869b127d"),
                ("_Test_GroundTruth", 9680101, "2e8f6edce454a5bdee52485e39f92bd6eddf357e81f39018d05512175238ef82"),
            )
        ),
    ),
    _cell_tracking(
        "u373",
        "PhC-C2DH-U373",
        "b18185c18fce54e8eeb93e4bbb9b201d757add9409bbf2283b8114185a11bc9e",
        title="PhC-C2DH-U373: glioblastoma cells in phase contrast, two films of 115 frames with references",
        more=" and two further public repositories",
        size=43_454_399,
        expansion=4.0,
    ),
    _cell_tracking(
        "u373-challenge",
        "PhC-C2DH-U373",
        "7aa3162e4363a416b259149adc13c9b09cb8aecfe8165eb1428dd534b66bec8a",
        title="PhC-C2DH-U373: the challenge's two films, without references (for predictions)",
        part="test",
        expansion=4.0,
    ),
    Source(
        name="hippocampus",
        title="Medical Segmentation Decathlon Task04: hippocampus in 3-D MRI, 260 volumes with labels, 130 without",
        layout="decathlon",
        licence="CC BY-SA 4.0",
        page="http://medicaldecathlon.com/",
        root="Task04_Hippocampus",
        archives=(
            Archive(
                "Task04_Hippocampus.tar",
                ("https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar",),
                "Task04_Hippocampus",
                md5="9d24dba78a72977dbd1d2e110310f31b",
                size=28_400_000,
                evidence="MONAI's DecathlonDataset",
            ),
        ),
    ),
    _kaggle(
        "mateuszbuda/lgg-mri-segmentation",
        "Only the folder {root} with one folder per patient is needed; a second copy in"
        " {out}/lgg-mri-segmentation can be deleted.",
        name="lgg",
        title="LGG brain MRI: 110 patients, 3,929 slices with tumour masks",
        layout="lgg",
        licence="CC BY-NC-SA 4.0 (the dataset's Kaggle page decides)",
        root="kaggle_3m",
    ),
    _kaggle(
        "pkdarabi/brain-tumor-image-dataset-semantic-segmentation",
        "{root} then holds train, valid and test, each with _annotations.coco.json.",
        name="braintumor",
        title="Brain tumour MRI with COCO annotations: 2,146 images, all outlines are rectangles",
        layout="coco",
        licence="CC BY 4.0 as the annotation files say (the dataset's Kaggle page decides)",
    ),
    *(_cell_tracking(folder.lower(), folder, sha256, expansion=10.0) for folder, sha256 in _CELL_TRACKING),
)
SOURCES = {source.name: source for source in _TABLE}


def find_source(name: str) -> Source:
    """Return a source of the table.

    Raises:
        InputError: the table has no source of that name.
    """
    if name not in SOURCES:
        raise InputError(f"unknown dataset {name!r}; known: {', '.join(SOURCES)}")
    return SOURCES[name]
