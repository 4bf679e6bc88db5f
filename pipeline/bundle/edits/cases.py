"""What a case is: a picture, a stack, a volume; how often it is drawn, how it is found, scored and written."""

from __future__ import annotations

import inspect
import re

from pipeline.bundle.config_files import TRAIN
from pipeline.bundle.draft import Draft
from pipeline.bundle.edits.channels import FINDERS
from pipeline.bundle.edits.remarks import PHANTOM

# Optimiser steps that an epoch has at least.
_LEAST_STEPS = 8
_REPEATS = "repeats"
_LARGEST = "KeepLargestConnectedComponentd"


def edit_cases(draft: Draft) -> None:
    """Make loading, scoring and writing fit what a case of the dataset is."""
    _name_unit(draft)
    if draft.kind.shape == "stacks" and draft.dataset.kind.shape == "pictures":
        _take_pictures(draft)
    if draft.dataset.kind.shape != "stacks":
        _fill_epochs(draft)
    _leave_masks_out(draft)
    _skip_largest(draft)
    _write_values(draft)


def _take_pictures(draft: Draft) -> None:
    """Let each picture be a stack of one slice: a folder of pictures is no stack."""
    for block in draft.configs.find("find_inputs"):
        block.item["_target_"] = "pipeline.datasets.find_images"
    draft.tell("cases: each picture is a stack of one slice")


def _fill_epochs(draft: Draft) -> None:
    """Draw each case of a small dataset several times an epoch: the source's epochs are those of a larger one."""
    batch = draft.train.get("batch_size")
    if not isinstance(batch, int):
        return
    cases = len(draft.dataset.parts["train"])
    times = -(-_LEAST_STEPS * batch // cases)
    for block in draft.configs.find("load_datalist", file=TRAIN):
        knob = draft.configs.knob_behind(block.item.get("repeat"))
        if block.item.get("split") != "train" or (times == 1 and "repeat" not in block.item):
            continue
        if knob:
            draft.train[knob] = times
        else:
            block.item["repeat"] = f"@{_REPEATS}"
            draft.configs.add_knob(TRAIN, _REPEATS, times)
            if PHANTOM in draft.configs.files:  # a trial is to be short
                draft.configs.files[PHANTOM][_REPEATS] = 1
        draft.tell(f"epochs: each of the {cases} training cases is drawn {f'{times} times' if times > 1 else 'once'}")


def _leave_masks_out(draft: Draft) -> None:
    """Let inference find images, not the masks that lie beside them."""
    from pipeline import datasets

    for block in draft.configs.find(*FINDERS):
        finder = getattr(datasets, block.target)
        default = block.item.get("exclude", inspect.signature(finder).parameters["exclude"].default)
        patterns = draft.dataset.masks_among_images(tuple(default))
        if patterns is None:
            draft.tell("inference: masks lie among the images and cannot be told by name; give --input a folder")
        elif patterns:
            block.item["exclude"] = [*default, *patterns]
            draft.tell(f"inference: files named {', '.join(patterns)} are masks, not images")


def _skip_largest(draft: Draft) -> None:
    """Keep all components: that there is one of each is a fact of the source's data."""
    for block in draft.configs.find(_LARGEST):
        knob = draft.configs.knob_behind(block.item.get("_disabled_"))
        if knob and draft.train.get(knob) is not True:
            draft.configs.set_knob(knob, True)
            draft.tell(f"post-processing: all components are kept; --{knob} false keeps the largest of each label")
        elif not knob:
            block.item["_disabled_"] = True
            draft.tell("post-processing: all components are kept, not only the largest")


def _write_values(draft: Draft) -> None:
    """Write masks with the grey values that the dataset's own masks have; volumes hold label ids."""
    values = draft.dataset.grey_values()
    if draft.dataset.kind.objects:
        return
    for block in draft.configs.find("SaveMaskd", "SaveSliceStackd"):
        block.item.pop("foreground_value", None)
        block.item.pop("values", None)
        default = [0, 255] if block.target == "SaveSliceStackd" else list(range(len(values)))
        if values != default and draft.dataset.kind.shape != "volumes":
            block.item["values"] = values


def _name_unit(draft: Draft) -> None:
    """Name scores by the case where it is not known that a case is a patient, or a patient a case."""
    if draft.dataset.has_subjects:
        return
    old = {name for data in draft.configs.files.values() for name in _list_words(data) if name.endswith("_patient")}
    for name in sorted(old):
        new = f"{name.removesuffix('_patient')}_case"
        draft.configs.replace_texts(lambda text, a=name, b=new: re.sub(rf"\b{a}\b", b, text))  # type: ignore[misc]
        draft.tell(f"names: {name} -> {new}, for the manifest does not name a subject for each case")


def _list_words(data: object) -> list[str]:
    if isinstance(data, dict):
        return [name for key, value in data.items() for name in (key, *_list_words(value))]
    if isinstance(data, list):
        return [name for value in data for name in _list_words(value)]
    return []
