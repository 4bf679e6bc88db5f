"""The configs of a bundle as data: blocks are found by what they build, changed in place, and written again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bundle.config_files import METADATA, read_config

Config = dict[str, Any]
_REFERENCE = re.compile(r"[@%]([A-Za-z_]\w*(?:(?:#|::)\w+)*)")


@dataclass(frozen=True)
class Block:
    """A part of a config that builds something: an object with ``_target_``.

    Attributes:
        file: name of the config.
        id: as MONAI spells it: ``"train#handlers#3"``.
        item: the object; changes in it are changes of the config.
        holder: the object or list that it lies in.
    """

    file: str
    id: str
    item: Config
    holder: Any

    @property
    def target(self) -> str:
        """Name of the class without its package: what is MONAI's short name is ours without the path."""
        return read_target(self.item)

    def acts_on(self, key: str) -> bool:
        """Return whether the transform has ``key`` among its ``keys``."""
        keys = self.item.get("keys", [])
        return key in ([keys] if isinstance(keys, str) else keys)


def read_target(item: Any) -> str:
    """Return the class that an object of a config builds, without its package; "" if it builds none.

    Example:
        >>> read_target({"_target_": "pipeline.transforms.EncodeMaskd"}), read_target({"lr": 1})
        ('EncodeMaskd', '')
    """
    target = item.get("_target_") if isinstance(item, dict) else None
    return target.rpartition(".")[2] if isinstance(target, str) else ""


class Configs:
    """All configs of a bundle but its metadata, and what of it changed.

    Args:
        files: content of each file by name; it is changed in place.
    """

    def __init__(self, files: dict[str, Config]) -> None:
        self.files = files

    def find(self, *targets: str, file: str = "") -> list[Block]:
        """Return the blocks of these classes, in their order; all blocks without ``targets``.

        Args:
            targets: names of classes without package.
            file: only of this config.
        """
        blocks = (block for name, data in self.files.items() if file in ("", name) for block in _walk(name, data))
        return [block for block in blocks if not targets or block.target in targets]

    def remove(self, block: Block) -> None:
        """Take a block out of its list; ids behind it move up, in overrides of other configs too.

        Raises:
            ValueError: the block does not lie in a list.
        """
        index = self._index(block)
        del block.holder[index]
        self._move(block, index, -1)

    def insert_before(self, block: Block, item: Config) -> None:
        """Put a block before another one of a list; ids behind it move down, in overrides of other configs too.

        Raises:
            ValueError: the block does not lie in a list.
        """
        index = self._index(block)
        block.holder.insert(index, item)
        self._move(block, index, 1)

    def insert_after(self, block: Block, item: Config) -> None:
        """Put a block behind another one of a list; ids behind it move down, in overrides of other configs too.

        Raises:
            ValueError: the block does not lie in a list.
        """
        index = self._index(block) + 1
        block.holder.insert(index, item)
        self._move(block, index, 1)

    def set_knob(self, name: str, value: Any) -> list[str]:
        """Give a top-level id a value in every config that has it.

        Returns:
            Names of the configs.
        """
        names = [file for file, data in self.files.items() if name in data]
        for file in names:
            self.files[file][name] = value
        return names

    def add_knob(self, file: str, name: str, value: Any) -> None:
        """Put a top-level id among the experiment's own knobs of a config, which stand in order of their names.

        Example:
            >>> configs = Configs({"train.json": {"seed": 0, "_desc_": "", "amp": 1, "size": 3, "device": ""}})
            >>> configs.add_knob("train.json", "repeats", 2)
            >>> list(configs.files["train.json"])
            ['seed', '_desc_', 'amp', 'repeats', 'size', 'device']
        """
        data = self.files[file]
        names = list(data)
        start = names.index("_desc_") + 1 if "_desc_" in names else 0
        later = (other for other in names[start:] if other > name or other == "device")
        behind = names[names.index(next(later, names[-1])) :]
        moved = {other: data.pop(other) for other in behind}
        data.update({name: value, **moved})

    def drop_knob(self, name: str) -> None:
        """Remove a top-level id from every config."""
        for data in self.files.values():
            data.pop(name, None)

    def knob_behind(self, value: Any) -> str:
        """Return the top-level id that a value refers to, "" if it is no reference to one.

        Example:
            >>> Configs({"train.json": {"size": 3}}).knob_behind("@size")
            'size'
        """
        name = value[1:] if isinstance(value, str) and value.startswith("@") else ""
        return name if any(name in data for data in self.files.values()) else ""

    def replace_texts(self, change: Callable[[str], str]) -> None:
        """Change every text and every key."""
        for name, data in self.files.items():
            self.files[name] = _replace(data, change)

    @staticmethod
    def _index(block: Block) -> int:
        found = [index for index, item in enumerate(block.holder) if item is block.item]
        if not isinstance(block.holder, list) or not found:
            raise ValueError(f"{block.file}: {block.id} does not lie in a list")
        return found[0]

    def _move(self, block: Block, index: int, step: int) -> None:
        """Renumber what other configs, and references, say of the places from ``index`` on."""
        prefix = block.id.rpartition("#")[0]
        for data in self.files.values() if step < 0 else ():
            for key in [key for key in data if f"{key}#".startswith(f"{prefix}#{index}#")]:
                del data[key]
        self.replace_texts(lambda text: _renumber(text, prefix, index, step))


def read_configs(bundle: Path, *, skip: Callable[[str], bool] = lambda name: False) -> Configs:
    """Read all JSON configs of a bundle but its metadata.

    Args:
        bundle: folder of the bundle.
        skip: says of a file's name whether it is left out.

    Raises:
        InputError: a file cannot be read.
    """
    names = sorted(path.name for path in (bundle / "configs").glob("*.json"))
    return Configs({name: read_config(bundle, name) for name in names if name != METADATA and not skip(name)})


def list_texts(item: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of a config with its id."""
    if isinstance(item, str):
        yield where, item
    elif isinstance(item, dict | list):
        for key, value in item.items() if isinstance(item, dict) else enumerate(item):
            yield from list_texts(value, f"{where}#{key}" if where else str(key))


def find_references(text: str) -> set[str]:
    """Return the ids that a text of a config refers to.

    Example:
        >>> sorted(find_references("$@train#a + @b")), find_references("mail@host")
        (['b', 'train#a'], set())
    """
    if not text.startswith(("@", "$", "%")):
        return set()
    return {found.replace("::", "#") for found in _REFERENCE.findall(text)}


def _walk(file: str, item: Any, where: str = "", holder: Any = None) -> Iterator[Block]:
    if isinstance(item, dict):
        if read_target(item):
            yield Block(file, where, item, holder)
        for key, value in item.items():
            yield from _walk(file, value, f"{where}#{key}" if where else key, item)
    elif isinstance(item, list):
        for index, value in enumerate(item):
            yield from _walk(file, value, f"{where}#{index}", item)


def _replace(item: Any, change: Callable[[str], str]) -> Any:
    """Change the texts in place where something can be, for blocks hold on to their objects."""
    if isinstance(item, str):
        return change(item)
    if isinstance(item, list):
        item[:] = [_replace(value, change) for value in item]
    elif isinstance(item, dict):
        changed = [(change(key), _replace(value, change)) for key, value in item.items()]
        item.clear()
        item.update(changed)
    return item


def _renumber(text: str, prefix: str, index: int, step: int) -> str:
    """Return a key or reference with the places of one list moved; one to what was removed leads nowhere.

    Example:
        >>> _renumber("$@a#list#3#keys", "a#list", 1, -1), _renumber("a#list#0", "a#list", 1, -1)
        ('$@a#list#2#keys', 'a#list#0')
    """

    def move(found: re.Match[str]) -> str:
        place = int(found[2])
        if step < 0 and place == index:
            return f"{found[1]}removed"
        return f"{found[1]}{place + step if place >= index else place}"

    return re.sub(rf"((?<![\w#]){re.escape(prefix)}#)(\d+)(?!\w)", move, text)
