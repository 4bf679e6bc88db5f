"""The packages that this one needs, in the versions that are installed here."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from pipeline.bundle.packing.package_wheel import find_distribution

_LONGEST_LICENCE = 100


@dataclass(frozen=True)
class Package:
    """A package from a public index."""

    name: str  #: in its normal form
    version: str  #: without the local part, such as ``+cpu``, which the index does not have
    licence: str  #: as the package states it; "" if it does not


def list_packages() -> list[Package]:
    """Return all packages that this one needs, directly or not, sorted by name.

    Packages that only some systems need are left out: those that need them pin them.

    Raises:
        InputError: this package is not installed.
    """
    found: dict[str, Package] = {}
    waiting = list(_read_needs(find_distribution()))
    while waiting:
        name = waiting.pop()
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # this Python does not need it, or it was removed
            continue
        if name not in found:
            found[name] = Package(name, Version(distribution.version).public, _read_licence(distribution.metadata))
            waiting += _read_needs(distribution)
    return [found[name] for name in sorted(found)]


def _read_needs(distribution: metadata.Distribution) -> Iterator[str]:
    for text in distribution.requires or ():
        need = Requirement(text)
        of_system = need.marker is not None and ("platform" in str(need.marker) or "os_name" in str(need.marker))
        if not of_system and (need.marker is None or need.marker.evaluate({"extra": ""})):
            yield canonicalize_name(need.name)


def read_field(fields: metadata.PackageMetadata, name: str) -> str:
    """Return a field of a package's metadata; "" if it is not there."""
    return str(next(iter(fields.get_all(name) or ()), ""))


def _read_licence(fields: metadata.PackageMetadata) -> str:
    stated = read_field(fields, "License-Expression") or read_field(fields, "License")
    if stated and "\n" not in stated and len(stated) <= _LONGEST_LICENCE:
        return stated
    classes = [text for text in fields.get_all("Classifier") or () if text.startswith("License :: ")]
    return ", ".join(sorted(text.rpartition(" :: ")[2] for text in classes))


def format_pins(packages: list[Package]) -> str:
    """Return the packages as a requirements file."""
    lines = ["# The versions with which this bundle was packed and its reference case computed."]
    return "".join(f"{line}\n" for line in [*lines, *(f"{package.name}=={package.version}" for package in packages)])
