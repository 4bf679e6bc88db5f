"""Check ``metadata.json``: the keys that MONAI asks for, the declared channels, the versions of packages."""

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline.bundle.configs import Config
from pipeline.bundle.overrides.suggestions import find_nearest
from pipeline.issues import Issue

_FILE = "metadata.json"
_TEXT, _VERSIONS = "a text", "an object of versions by package"
# The keys that MONAI's schema of 2024-07-25 requires.
_REQUIRED: Mapping[str, tuple[type, str]] = {
    "schema": (str, _TEXT),
    "version": (str, "a version such as 0.1.0"),
    "changelog": (dict, "an object of texts by version"),
    "monai_version": (str, _TEXT),
    "pytorch_version": (str, _TEXT),
    "numpy_version": (str, _TEXT),
    "required_packages_version": (dict, _VERSIONS),
    "task": (str, _TEXT),
    "description": (str, _TEXT),
    "authors": (str, _TEXT),
    "copyright": (str, _TEXT),
    "network_data_format": (dict, "an object with inputs and outputs"),
}
_TENSOR: Mapping[str, tuple[type, str]] = {
    "type": (str, _TEXT),
    "format": (str, _TEXT),
    "num_channels": (int, "a whole number"),
    "spatial_shape": (list, "a list of sizes"),
    "dtype": (str, _TEXT),
    "value_range": (list, "a list of two numbers"),
}
_PACKAGES = {"monai_version": "monai", "pytorch_version": "torch", "numpy_version": "numpy"}


def check_metadata(metadata: Config) -> Iterator[Issue]:
    """Yield what is missing or of a wrong type, and a version without an entry in the changelog.

    Args:
        metadata: content of ``metadata.json``.

    Example:
        >>> [issue.record for issue in check_metadata({"version": "0.1.0"})][:3]
        ['schema', 'changelog', 'monai_version']
    """
    yield from _check_keys(metadata, _REQUIRED, "")
    changelog = metadata.get("changelog")
    if isinstance(changelog, dict) and metadata.get("version") not in changelog:
        hint = "say in it what this version changes"
        yield _issue(f"version {metadata.get('version')!r} is not in changelog", "changelog", hint)
    for kind in ("inputs", "outputs"):
        formats = metadata.get("network_data_format")
        tensors = formats.get(kind) if isinstance(formats, dict) else None
        if isinstance(formats, dict) and not (isinstance(tensors, dict) and tensors):
            yield _issue(f"network_data_format has no {kind}", f"network_data_format#{kind}")
        for name, tensor in tensors.items() if isinstance(tensors, dict) else ():
            yield from _check_tensor(tensor, f"network_data_format#{kind}#{name}")


def _check_keys(item: Config, wanted: Mapping[str, tuple[type, str]], where: str) -> Iterator[Issue]:
    for key, (kind, words) in wanted.items():
        place = f"{where}#{key}" if where else key
        if key not in item:
            near = find_nearest(key, [other for other in item if other not in wanted], 0.8)
            yield _issue(f"{place} is missing", place, f"did you mean {near}?" if near else f"give {words}")
        elif not isinstance(item[key], kind) or isinstance(item[key], bool):
            yield _issue(f"{place} must be {words}, got {item[key]!r}", place)


def _check_tensor(tensor: Any, place: str) -> Iterator[Issue]:
    if not isinstance(tensor, dict):
        yield _issue(f"{place} must be an object, got {tensor!r}", place)
        return
    yield from _check_keys(tensor, _TENSOR, place)
    channels, named = tensor.get("num_channels"), tensor.get("channel_def")
    # One channel of probabilities has two labels, of which one is the background.
    fits = (channels, 2) if channels == 1 and "#outputs#" in place else (channels,)
    if isinstance(channels, int) and isinstance(named, dict) and len(named) not in fits:
        yield _issue(f"{place} has {channels} channels, but channel_def names {len(named)}", f"{place}#channel_def")


def _issue(message: str, record: str, hint: str = "") -> Issue:
    return Issue("metadata", "error", message, record, _FILE, hint)


def check_versions(metadata: Config) -> Iterator[Issue]:
    """Yield packages that are missing here, as errors, and other versions than the tested ones, as warnings.

    Args:
        metadata: content of ``metadata.json``.

    Example:
        >>> [issue.message for issue in check_versions({"required_packages_version": {"no-such-package": "1.0"}})]
        ['no-such-package is not installed']
    """
    wanted = {name: metadata[key] for key, name in _PACKAGES.items() if isinstance(metadata.get(key), str)}
    others = metadata.get("required_packages_version")
    for name, tested in {**wanted, **(others if isinstance(others, dict) else {})}.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            hint = f"pip install {name}=={tested}"
            yield Issue("missing-package", "error", f"{name} is not installed", name, _FILE, hint)
            continue
        if found.split("+")[0] != str(tested).split("+")[0]:
            message = f"{name} {found} is installed, the bundle was tested with {tested}"
            yield Issue("other-version", "warning", message, name, _FILE)
