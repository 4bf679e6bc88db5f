"""List the bundles of a folder: ``pipeline bundle list``."""

import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.bundle.config_files import INFERENCE, METADATA, TRAIN, find_bundles, find_output, read_config
from pipeline.issues import InputError, show_controls

NO_WEIGHTS, SHIPPED, DOWNLOAD, TRAINED = "none", "shipped", "to download", "trained here"


@dataclass(frozen=True)
class Entry:
    """A bundle in the list."""

    name: str  #: of its folder
    path: str  #: of its folder, as the command was given it
    problem: str = ""  #: why it cannot be used; "" if nothing is wrong. Then the rest is known.
    task: str = ""  #: the task, in words
    data: str = ""  #: source of the data
    network: str = ""  #: class of the network, without its package
    dimensions: int | None = None  #: spatial dimensions of the network, None if its config does not say
    parameters: int | None = None  #: number of the network's parameters, None if the metadata do not say
    weights: str = NO_WEIGHTS  #: ``"shipped"``, ``"to download"``, ``"trained here"`` or ``"none"``
    validation_score: Any = None  #: as the metadata state it, None without
    train: str = ""  #: the command that trains it
    predict: str = ""  #: the command that predicts with the weights of a training here, "" before the first one


def list_bundles(folder: Path) -> list[Entry]:
    """Describe every bundle in a folder; one that is broken has the reason in its ``problem``.

    Args:
        folder: the folder of bundles.

    Raises:
        InputError: there is no such folder, or nothing in it.
    """
    bundles = find_bundles(folder)
    if not bundles:
        raise InputError(f"the folder {folder} holds no bundle; expected folders with configs/{METADATA} in it")
    return [_describe(bundle) for bundle in bundles]


def _describe(bundle: Path) -> Entry:
    try:
        metadata, train, _ = (read_config(bundle, name) for name in (METADATA, TRAIN, INFERENCE))
    except InputError as error:
        return Entry(bundle.name, str(bundle), problem=str(error))
    network = train.get("network_def")
    if not isinstance(network, dict) or not isinstance(network.get("_target_"), str):
        return Entry(bundle.name, str(bundle), problem=f"{bundle / 'configs' / TRAIN}: no network_def with _target_")
    root = str(train.get("bundle_root", ""))
    run = "python -m monai.bundle run"
    trained = find_output(bundle, train) / "model.pt"
    predict = [run, *name_config(bundle, INFERENCE, root), "--checkpoint", quote_path(trained), "--input DIR"]
    return Entry(
        name=bundle.name,
        path=str(bundle),
        task=str(metadata.get("task", "")),
        data=str(metadata.get("data_source", "")),
        network=str(network["_target_"]).rpartition(".")[2],
        dimensions=network.get("spatial_dims"),
        parameters=metadata.get("network_parameters"),
        weights=_find_weights(bundle, trained),
        validation_score=metadata.get("validation_score"),
        train=" ".join([run, *name_config(bundle, TRAIN, root)]),
        predict=" ".join(predict) if trained.is_file() else "",
    )


def _find_weights(bundle: Path, trained: Path) -> str:
    if (bundle / "models" / "model.pt").is_file():
        return SHIPPED
    if trained.is_file():
        return TRAINED
    return DOWNLOAD if (bundle / "large_files.yml").is_file() else NO_WEIGHTS


def name_config(bundle: Path, name: str, bundle_root: str) -> list[str]:
    """Return the words of a command that name a config, and the bundle too if the config's default is wrong here.

    Args:
        bundle: folder of the bundle, relative to the current one or absolute.
        name: the file in ``configs``.
        bundle_root: as the config has it.

    Example:
        >>> name_config(Path("bundles/cells"), "train.json", "bundles/cells")
        ['--config_file', 'bundles/cells/configs/train.json']
        >>> name_config(Path("/data/bundles/cells"), "train.json", "bundles/cells")[2:]
        ['--bundle_root', '/data/bundles/cells']
    """
    words = ["--config_file", shlex.quote(str(bundle / "configs" / name))]
    here = os.path.abspath(bundle_root) == os.path.abspath(bundle)
    return words if here else [*words, "--bundle_root", quote_path(bundle)]


def quote_path(path: str | Path) -> str:
    """Return a path as a word of a shell that MONAI's command line takes for this path.

    MONAI runs a value that begins with ``$``, and reads digits as a number and commas as a list.

    Example:
        >>> quote_path("$data"), quote_path("2024/a b"), quote_path("data/kaggle_3m")
        ("'./$data'", "'./2024/a b'", 'data/kaggle_3m')
    """
    text = str(path)
    is_plain = re.fullmatch(r"[./~].*|(?!(None|True|False)$)[A-Za-z_][^,:#\[({]*", text, re.DOTALL)
    return shlex.quote(text if is_plain else f"./{text}")


def quote_files(paths: Iterable[str | Path]) -> str:
    """Return config files as a word of a shell that MONAI's command line reads as a list.

    Example:
        >>> print(quote_files(["a.json", "b.json"]), quote_files(["$x.json"]))
        "['a.json','b.json']" '['"'"'$x.json'"'"']'
    """
    text = f"[{','.join(repr(str(path)) for path in paths)}]"
    # Between double quotes a shell still runs these.
    return shlex.quote(text) if set(text) & set('"$`\\!') else f'"{text}"'


def print_bundles(folder: Path, as_json: bool = False) -> int:
    """Print every bundle in a folder to stdout.

    Args:
        folder: the folder of bundles.
        as_json: print JSON instead.

    Returns:
        Exit code 0, or 1 if a bundle is broken.

    Raises:
        InputError: there is no such folder, or nothing in it.
    """
    entries = list_bundles(folder)
    if as_json:
        print(json.dumps([asdict(entry) for entry in entries], indent=2, ensure_ascii=False))
    else:
        print("\n".join(map(show_controls, _format(entries))))
    return int(any(entry.problem for entry in entries))


def _format(entries: Sequence[Entry]) -> Iterator[str]:
    header = ("bundle", "network", "parameters", "weights", "validation score")
    rows = [header, *(_row(entry) for entry in entries if not entry.problem)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows if len(rows) > 1 else ():
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for entry in entries:
        yield ""
        if entry.problem:
            yield f"{entry.name}: BROKEN: {entry.problem}"
            continue
        yield f"{entry.name}: {entry.task}"
        for word in ("data", "train", "predict"):
            text = getattr(entry, word)
            if text:
                yield f"  {word:<7} {text}"


def _row(entry: Entry) -> tuple[str, ...]:
    network = f"{entry.network}, {entry.dimensions}-D" if entry.dimensions else entry.network
    parameters = f"{entry.parameters:,}" if isinstance(entry.parameters, int) else "-"
    return entry.name, network, parameters, entry.weights, format_score(entry.validation_score) or "-"


def format_score(score: Any) -> str:
    """Return a score of the metadata in words, "" if there is none.

    Args:
        score: a text, a number, or scores by name.

    Example:
        >>> format_score(0.84812), format_score({"dice": 0.9, "cases": 13}), format_score("Dice 0.85")
        ('0.848', 'dice 0.900, cases 13', 'Dice 0.85')
    """
    if isinstance(score, Mapping):
        return ", ".join(f"{name} {format_score(value)}" for name, value in score.items())
    if isinstance(score, Iterable) and not isinstance(score, str):
        return ", ".join(format_score(value) for value in score)
    if isinstance(score, float):
        return f"{score:.3f}"
    return "" if score is None else str(score)
