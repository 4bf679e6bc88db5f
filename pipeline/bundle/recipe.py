"""What a new bundle takes from a template or from an existing bundle: network, optimiser, schedule, settings."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from pipeline.bundle.config_files import EVALUATE, INFERENCE, METADATA, TRAIN, read_config
from pipeline.bundle.configs import Config, find_blocks
from pipeline.bundle.kinds import TEMPLATES, Kind, find_kind
from pipeline.issues import InputError

PHANTOM, PARALLEL = "phantom.json", "multi_gpu_train.json"
_FAST_NORM = "pipeline.networks.use_fast_instance_norm"
_PARTS = ("network_def", "optimizer", "lr_scheduler")
# A metric's name belongs to the template, which computes it.
_NOT_TAKEN = ("select_by",)


@dataclass(frozen=True)
class Recipe:
    """The experiment without its data."""

    template: str  #: name of the template
    origin: str  #: the bundle that it is made from, or the template, in words
    knobs: Config  #: settings by name, as in ``train.json``
    network_def: Config  #: the network; its channels are set later
    optimizer: Config  #: as in ``train.json``
    lr_scheduler: Config  #: as in ``train.json``
    #: expression that brings the network to the device, in the layout that is fastest for it, with faster layers or not
    network: str | Config
    phantom: Config  #: overrides of ``phantom.json``: small sizes, a small network
    value_range: list[float]  #: of the network's input
    required_packages: Mapping[str, str | None]  #: versions by package; None for those of this machine.
    #: handlers that load pretrained weights into a part of the network
    loaders: list[Config] = field(default_factory=list)
    find_unused_parameters: bool = False  #: for several processes
    source: Path | None = None  #: folder of the bundle, None for a template.
    #: ``train.json`` and ``inference.json`` of the bundle, for settings that its parts refer to
    configs: Mapping[str, Config] = field(default_factory=dict)
    metadata: Config = field(default_factory=dict)  #: of the bundle

    @property
    def kind(self) -> Kind:
        """The data that it is for."""
        return TEMPLATES[self.template]

    @property
    def title(self) -> str:
        """What the messages call it."""
        return self.source.name if self.source else f"template {self.template}"


def read_template(template: str) -> Recipe:
    """Return the recipe of a template."""
    text = files("pipeline.bundle").joinpath("templates/defaults.json").read_text(encoding="utf-8")
    defaults = json.loads(text)[template]
    packages = dict.fromkeys(defaults.pop("required_packages"))
    return Recipe(template, f"the template {template}", **defaults, required_packages=packages)


def read_source(source: Path) -> Recipe:
    """Return the recipe of an existing bundle: its template, with its own network and settings.

    Args:
        source: folder of the bundle.

    Raises:
        InputError: a config is missing or broken, or no template is for such data.
    """
    for name in (TRAIN, EVALUATE, INFERENCE):
        if not (source / "configs" / name).is_file():
            raise InputError(f"{source} has no configs/{name}, so no bundle can be made from it")
    configs = {name: read_config(source, name) for name in (TRAIN, EVALUATE, INFERENCE)}
    train, metadata = configs[TRAIN], read_config(source, METADATA)
    kind = find_kind(train)
    template = next((name for name, known in TEMPLATES.items() if known == kind), "")
    if not template:
        raise InputError(f"{source.name} is for {kind.describe()}; no template is; known: {', '.join(TEMPLATES)}")
    base = read_template(template)
    phantom = read_config(source, PHANTOM, optional=True)
    network = read_config(source, PARALLEL, optional=True).get("network", {})
    parts = {name: copy.deepcopy(train.get(name)) for name in _PARTS}
    for name, part in parts.items():
        if not isinstance(part, dict) or "_target_" not in part:
            raise InputError(f"{source / 'configs' / TRAIN}: {name} is not an object with _target_")
    for key in ("in_channels", "out_channels"):
        if key not in train["network_def"]:
            raise InputError(f"{source / 'configs' / TRAIN}: network_def has no {key}, so it cannot be changed")
    return Recipe(
        template=template,
        origin=f"{source.name} {metadata.get('version', '')}".rstrip(),
        network=_read_network(train, base.network),
        knobs={name: _take(train, name, value) for name, value in base.knobs.items()},
        **parts,  # type: ignore[arg-type]
        phantom={name: value for name, value in phantom.items() if "#" in name or name in train},
        value_range=base.value_range,
        required_packages={**base.required_packages, **metadata.get("required_packages_version", {})},
        loaders=list(find_blocks(train.get("train", {}).get("handlers", []), "EncoderWeightsLoader")),
        find_unused_parameters=network.get("find_unused_parameters") is True,
        source=source.absolute(),
        configs=configs,
        metadata=metadata,
    )


def _read_network(train: Config, default: str | Config) -> str | Config:
    """Return the bundle's own; it may only bring ``network_def`` to a device, into a layout, to faster layers."""
    network: str | Config = train.get("network", default)
    inner = network.get("network") if isinstance(network, dict) and network.get("_target_") == _FAST_NORM else network
    return network if isinstance(inner, str) and inner.startswith("$@network_def.to(@device") else default


def _take(train: Config, name: str, default: Any) -> Any:
    """Return the bundle's own value of a setting, unless it is an expression."""
    value = train.get(name, train.get(name.replace("per_case", "per_patient"), default))
    return default if name in _NOT_TAKEN or isinstance(value, str) else value
