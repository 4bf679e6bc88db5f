"""Find the configs that are named on the command line of ``bundle run``: the bundle's, and files of the receiver."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.bundle.audit.language.config_reading import name_suffix, read_config_data
from pipeline.bundle.config_files import MANIFEST, METADATA, suggest_name
from pipeline.issues import InputError

_FOLDER = "configs/"
_SUFFIXES = ("", ".json", ".yaml", ".yml")


@dataclass(frozen=True)
class Chosen:
    """The configs of a run, in the order in which they change each other."""

    files: list[str | Path]  #: a text is a path within the bundle, a path is a file of the receiver's
    own: Mapping[Path, bytes] = field(default_factory=dict)  #: content of the receiver's files

    @property
    def of_bundle(self) -> list[str]:
        """Paths within the bundle."""
        return [file for file in self.files if isinstance(file, str)]

    def locate(self, root: Path) -> list[str]:
        """Return the paths for MONAI, for a bundle in a folder."""
        return [str(file if isinstance(file, Path) else root / file) for file in self.files]


def choose_configs(words: Sequence[str], files: Collection[str], bundle: Path) -> Chosen:
    """Find the configs by name.

    Args:
        words: ``train``, ``inference.json``, or the path of a file of the receiver's.
        files: paths of the bundle's files.
        bundle: its folder or archive.

    Raises:
        InputError: there is no such config, or the first one is not the bundle's.
    """
    found = [_find(word, files, bundle) for word in words]
    if not isinstance(found[0], str):
        raise InputError(
            f"{words[0]} is not a config of the bundle; name one first, such as train: your files change it"
        )
    return Chosen(found, {path: path.read_bytes() for path in found if isinstance(path, Path)})


def _find(word: str, files: Collection[str], bundle: Path) -> str | Path:
    names = [f"{_FOLDER}{word.removeprefix(_FOLDER)}{suffix}" for suffix in _SUFFIXES]
    for name in names:
        if name in files and name_suffix(name):
            return name
    path = Path(word)
    if path.is_file() and name_suffix(word):
        inside = bundle.is_dir() and path.resolve().is_relative_to(bundle.resolve())
        name = path.resolve().relative_to(bundle.resolve()).as_posix() if inside else ""
        if not inside or name in files:
            return name or path
    names = [name.removeprefix(_FOLDER) for name in files if name.startswith(_FOLDER) and name_suffix(name)]
    known = [name for name in names if name not in (METADATA, MANIFEST)]
    raise InputError(
        f"there is no config {word!r} in the bundle, and no such file of yours; {suggest_name(word, known)}"
    )


def list_root_ids(contents: Mapping[str, bytes | None]) -> set[str]:
    """Return the ids at the root of configs, as far as they can be read.

    Args:
        contents: by path, whose suffix tells the language.
    """
    data: list[Any] = [read_config_data(path, content)[0] for path, content in contents.items() if content is not None]
    return {str(key).lstrip("+~").split("#")[0] for config in data if isinstance(config, dict) for key in config}
