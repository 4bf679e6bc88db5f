"""MONAI-style transforms that MONAI lacks: ``Foo`` for arrays, ``Food`` for dictionaries; and one ``Compose``."""

from pipeline.transforms.batched.augment_batch import AugmentBatch
from pipeline.transforms.from_cache import ComposeFromCache
from pipeline.transforms.intensity.alpha import DropAlpha, DropAlphad
from pipeline.transforms.intensity.neighbours import NeighbourSlicesToChannels, NeighbourSlicesToChannelsd
from pipeline.transforms.intensity.normalize_foreground import NormalizeForeground, NormalizeForegroundd
from pipeline.transforms.intensity.random_channels import (
    RandCopyChannel,
    RandCopyChanneld,
    RandGammaByChannel,
    RandGammaByChanneld,
)
from pipeline.transforms.io.coco_mask import LoadCocoMask, LoadCocoMaskd
from pipeline.transforms.io.mask_files import LoadMasks, LoadMasksd
from pipeline.transforms.io.save_maps import SaveImageMaps, SaveImageMapsd
from pipeline.transforms.io.save_mask import SaveImageMask, SaveImageMaskd
from pipeline.transforms.io.slice_stack import LoadImageStack, LoadImageStackd, SaveImageStack, SaveImageStackd
from pipeline.transforms.io.source_image import LoadSource, LoadSourced
from pipeline.transforms.labels.border_weight import BorderWeightMap, BorderWeightMapd
from pipeline.transforms.labels.instances import LabelInstances, LabelInstancesd, SeparateInstances, SeparateInstancesd
from pipeline.transforms.labels.mask import EncodeMask, EncodeMaskd
from pipeline.transforms.post.case_doubt import MeasureProbabilities, MeasureProbabilitiesd
from pipeline.transforms.post.dense_crf import DenseCRF, DenseCRFd
from pipeline.transforms.post.each_label import EachLabel, EachLabeld
from pipeline.transforms.post.each_slice import EachSlice, EachSliced
from pipeline.transforms.post.morphology import (
    MorphologicalClosing,
    MorphologicalClosingd,
    MorphologicalOpening,
    MorphologicalOpeningd,
)
from pipeline.transforms.post.scale_temperature import ScaleTemperature, ScaleTemperatured
from pipeline.transforms.post.small_components import RemoveSmallComponents, RemoveSmallComponentsd
from pipeline.transforms.post.surest_component import KeepSurestComponent, KeepSurestComponentd
from pipeline.transforms.resizing import Resized
from pipeline.transforms.spacing import Spacingd

# One line per pair.
# fmt: off
__all__ = [
    "AugmentBatch",
    "BorderWeightMap",
    "BorderWeightMapd",
    "ComposeFromCache",
    "DenseCRF",
    "DenseCRFd",
    "DropAlpha",
    "DropAlphad",
    "EachLabel",
    "EachLabeld",
    "EachSlice",
    "EachSliced",
    "EncodeMask",
    "EncodeMaskd",
    "KeepSurestComponent",
    "KeepSurestComponentd",
    "LabelInstances",
    "LabelInstancesd",
    "LoadCocoMask",
    "LoadCocoMaskd",
    "LoadImageStack",
    "LoadImageStackd",
    "LoadMasks",
    "LoadMasksd",
    "LoadSource",
    "LoadSourced",
    "MeasureProbabilities",
    "MeasureProbabilitiesd",
    "MorphologicalClosing",
    "MorphologicalClosingd",
    "MorphologicalOpening",
    "MorphologicalOpeningd",
    "NeighbourSlicesToChannels",
    "NeighbourSlicesToChannelsd",
    "NormalizeForeground",
    "NormalizeForegroundd",
    "RandCopyChannel",
    "RandCopyChanneld",
    "RandGammaByChannel",
    "RandGammaByChanneld",
    "RemoveSmallComponents",
    "RemoveSmallComponentsd",
    "Resized",
    "SaveImageMaps",
    "SaveImageMapsd",
    "SaveImageMask",
    "SaveImageMaskd",
    "SaveImageStack",
    "SaveImageStackd",
    "ScaleTemperature",
    "ScaleTemperatured",
    "SeparateInstances",
    "SeparateInstancesd",
    "Spacingd",
]
# fmt: on
