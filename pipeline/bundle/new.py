"""A new bundle for a dataset: ``pipeline bundle new``."""

import os
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files as list_resources
from pathlib import Path

from pipeline.atomic import write_atomically
from pipeline.bundle.config_files import BUNDLES, EVALUATE, INFERENCE, METADATA, TRAIN
from pipeline.bundle.configs import RELATIVE, Config
from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.draft import Draft
from pipeline.bundle.formatting import format_config
from pipeline.bundle.kinds import require_fit
from pipeline.bundle.overview import name_config, quote_files, quote_path
from pipeline.bundle.recipe import Recipe
from pipeline.bundle.render import render_configs
from pipeline.bundle.texts import list_notes, make_metadata, write_card, write_data_license
from pipeline.datasets.files import is_there
from pipeline.issues import InputError

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
# Longer names would not fit the expressions that join paths.
_LONGEST_NAME = 30
_COPIED = {"LICENSE": "LICENSE", "configs/logging.conf": "logging.conf"}


@dataclass(frozen=True)
class Created:
    """A bundle that was made."""

    path: Path  #: its folder, as the command was given it
    manifest: Path  #: the manifest that it reads
    notes: tuple[str, ...]  #: how the configs were fitted to the data, one line each
    commands: tuple[str, ...]  #: the commands that train, evaluate, report and predict


def check_name(name: str, output: Path) -> None:
    """Refuse a name that no bundle can have, or that is taken.

    Raises:
        InputError: it is not snake_case, too long, or exists in ``output``.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        proposal = "_".join(re.findall(r"[a-z0-9]+", name.casefold()))[:_LONGEST_NAME].strip("_")
        hint = f", for example {proposal}" if _NAME.fullmatch(proposal) else ""
        rule = f"small letters, digits and single underscores, a letter first, at most {_LONGEST_NAME}"
        raise InputError(f"a bundle cannot have the name {name!r}: expected {rule}{hint}; --output names the folder")
    if not os.path.abspath(output).isprintable():
        raise InputError(f"{output}: expected a folder whose name and path can be printed; choose another --output")
    if is_there(output) and not output.is_dir():
        raise InputError(f"{output} is a file, expected a folder of bundles; choose another --output")
    if is_there(output / name):
        raise InputError(f"{output / name} exists and is not overwritten; choose another name, or another --output")


def create_bundle(
    name: str, recipe: Recipe, dataset: UserDataset, output: Path, *, authors: str = "", rehearse: bool = True
) -> Created:
    """Make a bundle for a dataset.

    It is written into a hidden folder beside its place and renamed, so that a bundle that exists is complete; the
    manifest is copied where there is a folder ``data_manifests`` for it.

    Args:
        name: of the new bundle.
        recipe: network and settings, from a template or an existing bundle.
        dataset: the data that the new one is for.
        output: folder of bundles that gets it.
        authors: names for the metadata; "" leaves a blank.
        rehearse: build the network, the loss and the metrics once, on a small random image.

    Raises:
        InputError: the name is taken, the recipe is not for such data, or cannot be fitted to them.
        OSError: the bundle cannot be written.
    """
    check_name(name, output)
    folders = [BUNDLES, output, *([recipe.source.parent] if recipe.source else [])]
    require_fit(recipe.title, recipe.kind, dataset.manifest, dataset.path, dict.fromkeys(folders))
    draft = Draft(name, Path(os.path.abspath(output / name)), dataset, recipe, authors)
    _check_paths(draft)
    configs = render_configs(draft)
    parameters = None
    if rehearse:
        from pipeline.bundle.rehearsal import rehearse_training

        parameters = rehearse_training(draft, configs)
    target = output / name
    files = {f"configs/{file}": format_config(data) for file, data in configs.items()}
    files[f"configs/{METADATA}"] = format_config(make_metadata(draft, configs, parameters))
    files["docs/README.md"] = write_card(draft, configs, parameters, _list_commands_of_card(draft))
    files["docs/data_license.txt"] = write_data_license(draft)
    _write(draft, target, files)
    commands = tuple(_list_commands(draft, configs, target))
    return Created(target, draft.locate_manifest(), list_notes(draft, configs[TRAIN]), commands)


def _check_paths(draft: Draft) -> None:
    for path in (draft.bundle_root, draft.dataset_dir, draft.input, str(draft.locate_manifest())):
        if RELATIVE.search(path):
            raise InputError(f"{path}: MONAI takes @# and %# in a path for a reference; rename the folder or file")


def _list_commands(draft: Draft, configs: dict[str, Config], target: Path) -> list[str]:
    """Return the commands that train, evaluate, report and predict, as they are typed in the current folder."""
    more = name_config(target, TRAIN, draft.bundle_root)[2:]
    data = _name_folder(draft, "dataset_dir", configs[TRAIN])
    images = _name_folder(draft, "input", configs[INFERENCE])
    return _join_commands(draft, target, [*more, *data], [*more, *images])


def _list_commands_of_card(draft: Draft) -> list[str]:
    """Return the same commands as they are typed in the folder that holds the folder of bundles, on any machine."""
    known = draft.dataset.folder is not None
    data, images = ([] if known else [f"--{knob}", "DIR"] for knob in ("dataset_dir", "input"))
    return _join_commands(draft, Path(draft.bundle_root), data, images)


def _join_commands(draft: Draft, bundle: Path, data: Sequence[str], images: Sequence[str]) -> list[str]:
    train, evaluate, inference = (bundle / "configs" / file for file in (TRAIN, EVALUATE, INFERENCE))
    checkpoint = f"{draft.output_dir}/model.pt"
    run = "python -m monai.bundle run --config_file"
    commands = (
        [run, shlex.quote(str(train)), *data],
        [run, quote_files([train, evaluate]), *data, "--checkpoint", checkpoint],
        ["python -m pipeline report", f"{draft.output_dir}/evaluate"],
        [run, shlex.quote(str(inference)), *images, "--checkpoint", checkpoint, "--overlay true"],
    )
    return [" ".join(words) for words in commands]


def _name_folder(draft: Draft, knob: str, config: Config) -> list[str]:
    """Return the words that name a folder of the dataset, if the config's own value would not be right here."""
    if draft.dataset.folder is None:
        return [f"--{knob}", "DIR"]
    value = str(config[knob])
    right = os.path.normpath(draft.root / value)
    return [] if os.path.abspath(value) == right else [f"--{knob}", quote_path(os.path.relpath(right))]


def _write(draft: Draft, target: Path, files: dict[str, str]) -> None:
    """Write everything, and give it its name last; on any error nothing is left."""
    existed = target.parent.is_dir()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    manifest = draft.locate_manifest()
    copied = False
    try:
        temporary.mkdir(parents=True)
        for name, text in files.items():
            with write_atomically(temporary / name) as stream:
                stream.write(text)
        for name, template in _COPIED.items():
            content = list_resources("pipeline.bundle").joinpath("templates", template).read_bytes()
            (temporary / name).write_bytes(content)
        copied = _copy_manifest(draft.dataset.path, manifest)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if copied:
            manifest.unlink(missing_ok=True)
        if not existed and target.parent.is_dir() and not any(target.parent.iterdir()):
            target.parent.rmdir()
        raise


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
