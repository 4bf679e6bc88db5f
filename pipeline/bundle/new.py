"""A new bundle from an existing one: ``pipeline bundle new``."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.atomic import write_atomically
from pipeline.bundle.config_files import (
    BUNDLES,
    EVALUATE,
    INFERENCE,
    METADATA,
    TRAIN,
    find_bundles,
    read_config,
    suggest_name,
)
from pipeline.bundle.configs import Config, Configs, find_references, list_texts, read_configs
from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.draft import Draft
from pipeline.bundle.edits import EDITS
from pipeline.bundle.edits.paths import locate_manifest
from pipeline.bundle.formatting import format_config
from pipeline.bundle.kinds import find_kind, require_fit
from pipeline.bundle.metadata import make_metadata
from pipeline.bundle.model_card import write_card, write_data_license
from pipeline.bundle.overview import tell_config
from pipeline.datasets.files import is_there
from pipeline.issues import InputError

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
# Longer names would not fit the expressions that join paths.
_LONGEST_NAME = 30
# The recipe of the experiment that the source replaces, and settings that were tuned: both on the source's data.
_SOURCES_OWN = ("origin.json", "postprocessing.json")
_SUITE = (TRAIN, EVALUATE, INFERENCE)


@dataclass(frozen=True)
class Created:
    """A bundle that was made.

    Attributes:
        path: its folder, as the command was told.
        manifest: the manifest that it reads.
        changes: what differs from the source, a line each.
        commands: that train, evaluate and predict.
    """

    path: Path
    manifest: Path
    changes: tuple[str, ...]
    commands: tuple[str, ...]


def check_name(name: str, output: Path) -> None:
    """Refuse a name that no bundle can have, or that is taken.

    Raises:
        InputError: it is not snake_case, too long, or exists in ``output``.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        proposal = "_".join(re.findall(r"[a-z0-9]+", name.casefold()))[:_LONGEST_NAME].strip("_")
        hint = f", for example {proposal}" if _NAME.fullmatch(proposal) else ""
        rule = f"small letters, digits and single underscores, a letter first, at most {_LONGEST_NAME}"
        raise InputError(f"the name {name!r} is not one for a bundle: expected {rule}{hint}; --output names the folder")
    if is_there(output / name):
        raise InputError(f"{output / name} exists and is not overwritten; choose another name, or another --output")


def find_source(source: str, folders: Sequence[Path]) -> Path:
    """Return the folder of an existing bundle.

    Args:
        source: a name, or the path of a folder.
        folders: where names are looked for.

    Raises:
        InputError: there is no such bundle; the nearest name is suggested.
    """
    if os.sep in source or "/" in source:
        if (Path(source) / "configs").is_dir():
            return Path(source)
        raise InputError(f"--from: {source} is no bundle; expected a folder with configs/ in it, or a bundle's name")
    known = {bundle.name: bundle for folder in reversed(folders) if folder.is_dir() for bundle in find_bundles(folder)}
    if source in known:
        return known[source]
    if not known:
        where = " and ".join(dict.fromkeys(str(folder) for folder in folders))
        hint = "type the command in the folder that holds bundles/, or give the source's path"
        raise InputError(f"--from: there is no bundle in {where}; {hint}")
    raise InputError(f"--from: unknown bundle {source!r}; {suggest_name(source, known)}")


def create_bundle(name: str, source: Path, dataset: UserDataset, output: Path, *, rehearse: bool = True) -> Created:
    """Make a bundle for a dataset from an existing bundle.

    It is written into a hidden folder beside its place and renamed, so that a bundle that exists is whole; the manifest
    is copied where there is a folder ``data_manifests`` for it.

    Args:
        name: of the new bundle.
        source: folder of the existing one.
        dataset: what the new one is for.
        output: folder of bundles that gets it.
        rehearse: build the network, the loss and the metrics once, on a small random image.

    Returns:
        What was made.

    Raises:
        InputError: the name is taken, the source is not for such data, or cannot be converted.
        OSError: the bundle cannot be written.
    """
    check_name(name, output)
    draft = _open_draft(name, source, dataset, output)
    require_fit(
        source.name, draft.kind, dataset.manifest, dataset.path, dict.fromkeys((BUNDLES, output, source.parent))
    )
    before = set(find_lost(draft.configs).values())
    for edit in EDITS:
        edit(draft)
    for (file, where), reference in find_lost(draft.configs).items():
        if reference not in before:  # MONAI would only warn of it
            needs = f"{where} in {file} needs {reference}, which an edit took away"
            raise InputError(f"{source.name} cannot be made to fit: {needs}; nothing was written")
    parameters = None
    if rehearse:
        from pipeline.bundle.rehearsal import rehearse_training

        parameters = rehearse_training(draft)
    target = output / name
    commands = _list_commands(draft, target)
    files = {f"configs/{file}": format_config(data) for file, data in draft.configs.files.items()}
    files[f"configs/{METADATA}"] = format_config(make_metadata(draft, parameters))
    files["docs/README.md"] = write_card(draft, parameters, _list_commands_of_card(draft))
    files["docs/data_license.txt"] = write_data_license(draft)
    _write(draft, target, files)
    return Created(target, locate_manifest(draft), tuple(draft.changes), tuple(commands))


def _open_draft(name: str, source: Path, dataset: UserDataset, output: Path) -> Draft:
    configs = read_configs(source, skip=_SOURCES_OWN.__contains__)
    for file in _SUITE:
        if file not in configs.files:
            raise InputError(f"{source} has no configs/{file}, so it is no source for a bundle")
    draft = Draft(
        name=name,
        folder=Path(os.path.abspath(output / name)),
        source=Path(os.path.abspath(source)),
        metadata=read_config(source, METADATA),
        configs=configs,
        kind=find_kind(configs),
        dataset=dataset,
    )
    draft.outputs = int(draft.network("out_channels"))
    return draft


def find_lost(configs: Configs) -> dict[tuple[str, str], str]:
    """Return the references of configs that lead nowhere, by file and id.

    Overrides may refer to each complete file and to what they add themselves.
    """
    complete = [data for data in configs.files.values() if "imports" in data]
    lost = {}
    for file, data in configs.files.items():
        bases = [data] if "imports" in data else [*complete, data]
        for where, text in list_texts(data):
            for name in sorted(find_references(text)):
                if not any(_has(base, name) for base in bases):
                    lost[file, where] = name
    return lost


def _has(data: Config, name: str) -> bool:
    """Return whether a config holds an id, or overrides it, or a part of it, or what holds it."""
    if any(f"{key}#".startswith(f"{name}#") or f"{name}#".startswith(f"{key}#") for key in data if "#" in key):
        return True
    here: Any = data
    for part in name.split("#"):
        if isinstance(here, dict) and part in here:
            here = here[part]
        elif isinstance(here, list) and part.isdigit() and int(part) < len(here):
            here = here[int(part)]
        else:
            return False
    return True


def _list_commands(draft: Draft, target: Path) -> list[str]:
    """Return the commands that train, evaluate, report and predict, as they are typed in the current folder."""
    more = tell_config(target, TRAIN, str(draft.train["bundle_root"]))[2:]
    data, images = _tell_folder(draft, TRAIN, "dataset_dir"), _tell_folder(draft, INFERENCE, "input")
    return _join_commands(target, [*more, *data], [*more, *images])


def _list_commands_of_card(draft: Draft) -> list[str]:
    """Return the same commands as they are typed in the folder that holds the folder of bundles, on any machine."""
    known = draft.dataset.folder is not None
    data, images = ([] if known else [f"--{knob}", "DIR"] for knob in ("dataset_dir", "input"))
    return _join_commands(Path(draft.train["bundle_root"]), data, images)


def _join_commands(bundle: Path, data: Sequence[str], images: Sequence[str]) -> list[str]:
    train, evaluate, inference = (bundle / "configs" / file for file in _SUITE)
    output, checkpoint = bundle / "output", shlex.quote(str(bundle / "output/model.pt"))
    run = "python -m monai.bundle run --config_file"
    commands = (
        [run, shlex.quote(str(train)), *data],
        [run, f"\"['{train}','{evaluate}']\"", *data, "--checkpoint", checkpoint],
        ["python -m pipeline report", shlex.quote(str(output / "evaluate"))],
        [run, shlex.quote(str(inference)), *images, "--checkpoint", checkpoint, "--overlay true"],
    )
    return [" ".join(words) for words in commands]


def _tell_folder(draft: Draft, file: str, knob: str) -> list[str]:
    """Return the words that name a folder of the dataset where the config's own value would not be right here."""
    value = str(draft.configs.files[file].get(knob, ""))
    if draft.dataset.folder is None:
        return [f"--{knob}", "DIR"]
    right = os.path.normpath(draft.root / value)
    return [] if os.path.abspath(value) == right else [f"--{knob}", shlex.quote(os.path.relpath(right))]


def _write(draft: Draft, target: Path, files: dict[str, str]) -> None:
    """Write everything, and give it its name last; on any error nothing is left."""
    existed = target.parent.is_dir()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    manifest = locate_manifest(draft)
    copied = False
    try:
        temporary.mkdir(parents=True)
        for name, text in files.items():
            with write_atomically(temporary / name) as stream:
                stream.write(text)
        for name in _list_copied(draft.source):
            shutil.copyfile(draft.source / name, temporary / name)
        copied = _copy_manifest(draft.dataset.path, manifest)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if copied:
            manifest.unlink(missing_ok=True)
        if not existed and target.parent.is_dir() and not any(target.parent.iterdir()):
            target.parent.rmdir()
        raise


def _list_copied(source: Path) -> Iterator[str]:
    """Yield the files that are taken as they are."""
    if (source / "LICENSE").is_file():
        yield "LICENSE"
    yield from (f"configs/{path.name}" for path in sorted((source / "configs").glob("*.conf")))


def _copy_manifest(path: Path, target: Path) -> bool:
    """Copy the manifest to where the bundle reads it; returns whether there is a new file."""
    content = path.read_bytes()
    if target == path or (target.is_file() and target.read_bytes() == content):
        return False
    if is_there(target):
        raise InputError(f"{target} exists and is another manifest; choose another name for the bundle")
    with write_atomically(target, "wb") as stream:
        stream.write(content)
    return True
