"""Write the bill of materials of a packed bundle, in CycloneDX: weights, wheel and the packages that it needs."""

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pipeline
from pipeline.bundle.packing.package_wheel import DISTRIBUTION
from pipeline.bundle.packing.requirements import Package
from pipeline.bundle.packing.travelling_files import SAFE_WEIGHTS, WEIGHTS
from pipeline.issues import InputError

MATERIALS = "bom.cdx.json"
# One time for all, because the same bundle must give the same bytes.
_TIME = datetime(1980, 1, 1, tzinfo=UTC)


def require_writer() -> None:
    """Make sure that the library that writes CycloneDX is installed.

    Raises:
        InputError: it is not.
    """
    try:
        import cyclonedx  # noqa: F401
    except ImportError:
        hint = 'type python -m pip install "cyclonedx-python-lib>=11,<12"'
        raise InputError(f"packing needs cyclonedx-python-lib, which writes the bill of materials; {hint}") from None


def write_materials(name: str, version: str, files: Mapping[str, bytes], packages: Sequence[Package]) -> bytes:
    """Return a bill of materials as JSON; the same materials give the same bytes.

    Args:
        name: of the bundle.
        version: of the bundle.
        files: that travel, by path; weights and wheels are listed with their digests.
        packages: that the bundle needs from an index.
    """
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    root = Component(name=name, version=version, type=ComponentType.MACHINE_LEARNING_MODEL, bom_ref=name)
    components = [*_list_files(files), *map(_make_component, packages)]
    seed = "\n".join([name, version, *sorted(f"{one.bom_ref} {one.hashes}" for one in components)])
    bom = Bom(
        components=components,
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, seed),
        metadata=BomMetaData(component=root, timestamp=_TIME),
    )
    bom.register_dependency(root, components)
    return (JsonV1Dot6(bom).output_as_string(indent=1) + "\n").encode()


def _list_files(files: Mapping[str, bytes]) -> Iterator[Any]:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    for path, content in sorted(files.items()):
        if path in (WEIGHTS, SAFE_WEIGHTS) or path.endswith(".whl"):
            digest = HashType(alg=HashAlgorithm.SHA_256, content=hashlib.sha256(content).hexdigest())
            if path.endswith(".whl"):
                name, version, kind = DISTRIBUTION, pipeline.__version__, ComponentType.LIBRARY
            else:
                name, version, kind = path, None, ComponentType.DATA
            yield Component(name=name, version=version, type=kind, bom_ref=path, hashes=[digest])


def _make_component(package: Package) -> Any:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.component import Component
    from packageurl import PackageURL

    url = PackageURL("pypi", None, package.name, package.version)
    licences = [LicenseFactory().make_from_string(package.licence)] if package.licence else []
    return Component(name=package.name, version=package.version, purl=url, bom_ref=url.to_string(), licenses=licences)
