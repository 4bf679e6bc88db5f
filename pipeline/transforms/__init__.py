"""MONAI-style transforms (``Foo`` for arrays, ``Food`` for dictionaries) for what MONAI lacks."""

from pipeline.transforms.alpha import DropAlpha, DropAlphad
from pipeline.transforms.border_weight import BorderWeightMap, BorderWeightMapd
from pipeline.transforms.coco import LoadCocoMask, LoadCocoMaskd
from pipeline.transforms.crf import DenseCRF, DenseCRFd
from pipeline.transforms.each_label import EachLabel, EachLabeld
from pipeline.transforms.each_slice import EachSlice, EachSliced
from pipeline.transforms.instances import LabelInstances, LabelInstancesd, SeparateInstances, SeparateInstancesd
from pipeline.transforms.intensity import (
    NormalizeForeground,
    NormalizeForegroundd,
    RandCopyChannel,
    RandCopyChanneld,
    RandGammaByChannel,
    RandGammaByChanneld,
)
from pipeline.transforms.mask import EncodeMask, EncodeMaskd
from pipeline.transforms.morphology import (
    MorphologicalClosing,
    MorphologicalClosingd,
    MorphologicalOpening,
    MorphologicalOpeningd,
)
from pipeline.transforms.neighbours import NeighbourSlicesToChannels, NeighbourSlicesToChannelsd
from pipeline.transforms.save_mask import SaveMask, SaveMaskd
from pipeline.transforms.slice_stack import LoadSliceStack, LoadSliceStackd, SaveSliceStack, SaveSliceStackd
from pipeline.transforms.small_components import RemoveSmallComponents, RemoveSmallComponentsd
from pipeline.transforms.source_image import LoadSource, LoadSourced

__all__ = [
    "BorderWeightMap",
    "BorderWeightMapd",
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
    "LabelInstances",
    "LabelInstancesd",
    "LoadCocoMask",
    "LoadCocoMaskd",
    "LoadSliceStack",
    "LoadSliceStackd",
    "LoadSource",
    "LoadSourced",
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
    "SaveMask",
    "SaveMaskd",
    "SaveSliceStack",
    "SaveSliceStackd",
    "SeparateInstances",
    "SeparateInstancesd",
]
