"""The texts of a new bundle: metadata, model card, licence of the data, and notes for the terminal."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline.bundle.config_files import TRAIN
from pipeline.bundle.configs import Config, make_inert, read_target
from pipeline.bundle.draft import Draft
from pipeline.bundle.fitting import find_large_pictures, fit_cache_rate
from pipeline.bundle.overview import quote_files, quote_path
from pipeline.bundle.render import REFINE, find_excluded, name_repeat, render
from pipeline.datasets.probes import expected_format
from pipeline.issues import join_lines

_PAGE = re.compile(r"https?://[\w./~%?=&+-]+[\w/]")
NO_AUTHOR = "TODO: your name"
UNKNOWN = "not stated in the files"
Configs = dict[str, Config]


def make_metadata(draft: Draft, configs: Configs, parameters: int | None) -> dict[str, Any]:
    """Return the metadata of a new bundle.

    Args:
        draft: the bundle.
        configs: its configs by name.
        parameters: number of the network's parameters, None if it is not known.
    """
    values = _describe(draft, configs, parameters)
    shape = find_input_shape(draft, configs[TRAIN])
    authors = join_lines(draft.authors) or NO_AUTHOR
    text = render("metadata.json", {**values, "find_version": _find_version, "shape": shape, "authors": authors})
    inert: dict[str, Any] = make_inert(json.loads(text))
    return inert


def write_card(draft: Draft, configs: Configs, parameters: int | None, commands: list[str]) -> str:
    """Return the text of ``docs/README.md``.

    Args:
        draft: the bundle.
        configs: its configs by name.
        parameters: number of the network's parameters, None if it is not known.
        commands: that train, evaluate, report and predict.
    """
    values = {
        "plain": escape_markdown,
        "quote_files": quote_files,
        "quote": lambda name: quote_path(f"{draft.bundle_root}/{name}"),
        "commands": commands,
        "folds": len({case.fold for case in draft.dataset.manifest.cases if case.fold is not None}),
        "preprocessing": list(_list_steps(configs[TRAIN])),
        "augmentations": _count_augmentations(configs[TRAIN]),
        "refine": configs[REFINE],
    }
    return render("card.md", {**_describe(draft, configs, parameters), **values}) + "\n"


def write_data_license(draft: Draft) -> str:
    """Return the text of ``docs/data_license.txt``."""
    return render("data_license.txt", {"manifest": draft.dataset.manifest, "unknown": UNKNOWN}).rstrip("\n") + "\n"


def list_notes(draft: Draft, train: Config) -> tuple[str, ...]:
    """Return one line for each decision that the data made."""
    rate, total = fit_cache_rate(draft)
    values = {
        "draft": draft,
        "dataset": draft.dataset,
        "train": train,
        "repeat": name_repeat(draft),
        "excluded": find_excluded(draft),
        "cache_rate": rate,
        "gigabytes": total,
        "megapixels": find_large_pictures(draft),
    }
    return tuple(render("notes.txt", values).rstrip("\n").split("\n"))


def find_input_shape(draft: Draft, train: Config) -> list[int]:
    """Return the spatial shape of a network's input in training: a crop, a tile, or a whole slice."""
    shape: list[int] = next(train[name] for name in ("image_size", "input_size", "roi_size") if name in train)
    # Slices go through the network one by one.
    return shape[:2] if draft.template == "stacks" else shape


def escape_markdown(text: str) -> str:
    r"""Return a text as Markdown that shows it and does nothing else: no links, tables, formulas or HTML.

    Addresses of pages stay links, on which a reader must click.

    Example:
        >>> print(escape_markdown("a|b <i>x</i> _y_ left_kidney https://a.org/b_c"))
        a\|b &lt;i&gt;x&lt;/i&gt; \_y\_ left_kidney https://a.org/b_c
    """
    words = (word if _PAGE.fullmatch(word) else _escape_word(word) for word in join_lines(text).split(" "))
    return " ".join(words)


def _escape_word(word: str) -> str:
    entities = re.sub(r"&(?=#|\w+;)", "&amp;", word).replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"[\\`*\[\]|~$]|(?<!\w)(?<!&)#|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", entities)


def join_names(names: tuple[str, ...]) -> str:
    """Return names as an enumeration.

    Example:
        >>> join_names(("cyst", "nodule", "vessel"))
        'cyst, nodule and vessel'
    """
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _describe(draft: Draft, configs: Configs, parameters: int | None) -> dict[str, Any]:
    """Return the values that the templates of metadata and model card share."""
    dataset, network = draft.dataset, configs[TRAIN]["network_def"]
    return {
        "draft": draft,
        "recipe": draft.recipe,
        "dataset": dataset,
        "manifest": dataset.manifest,
        "train": configs[TRAIN],
        "parameters": parameters,
        "unknown": UNKNOWN,
        "network": f"A {network.get('spatial_dims', 2)}-D {read_target(network)}",
        "objects": join_names(dataset.labels[1:]),
        "counts": ", ".join(f"{len(cases)} {split}" for split, cases in dataset.parts.items() if cases),
        "files": _describe_files(draft),
    }


def _find_version(package: str, known: str | None = None) -> str:
    """Return the version of a package on this machine, without a build's suffix; the known one if it is not there."""
    try:
        return version(package).split("+")[0]
    except PackageNotFoundError:
        return known or UNKNOWN


def _describe_files(draft: Draft) -> str:
    """Return the kind of the image files, as far as the manifest knows, such as "PNG pictures, uint8"."""
    cases = draft.dataset.manifest.cases
    formats = sorted({expected_format(file) for case in cases for file in case.image} - {""})
    types = sorted({str(case.facts["dtype"]) for case in cases if case.facts.get("dtype")})
    what = {"pictures": "pictures", "stacks": "slices", "volumes": "volumes"}.get(draft.dataset.kind.shape, "files")
    return ", ".join([f"{' and '.join(formats)} {what}", *([" and ".join(types)] if types else [])])


def _list_steps(train: Config) -> Iterator[str]:
    """Yield one line per transform, with its settings."""
    for step in train["train"]["deterministic_transforms"]:
        keys = step.get("keys", [])
        on = " and ".join([keys] if isinstance(keys, str) else keys)
        shown = {key: value for key, value in step.items() if key[0] != "_" and key != "keys"}
        settings = ", ".join(f"{key} {_show(value, train)}" for key, value in shown.items())
        yield f"`{read_target(step)}` ({on})" + (f": {settings}" if settings else "")


def _show(value: Any, train: Config) -> str:
    """Return a setting in words; a reference as its value."""
    if isinstance(value, str) and value.startswith("@") and value[1:] in train:
        return _show(train[value[1:]], train)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False).replace('"', "")


def _count_augmentations(train: Config) -> str:
    steps = [*train["train"]["random_transforms"], *train["train"]["augmentation"]]
    numbers = Counter(re.findall(r"Rand\w+", " ".join(map(read_target, steps))))
    return ", ".join(name if number == 1 else f"{name} ({number} times)" for name, number in numbers.items())
