"""Audit a bundle: every check on every file, in one pass, without import or evaluation of anything in it."""

import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pipeline.bundle.audit.allowances import Allowances
from pipeline.bundle.audit.bundle_source import BundleSource, Reader, open_source
from pipeline.bundle.audit.files import code_files, private_data
from pipeline.bundle.audit.files.download_list import check_downloads, is_download_list
from pipeline.bundle.audit.files.logging_conf import check_logging, is_logging_file
from pipeline.bundle.audit.files.metadata_fields import check_metadata
from pipeline.bundle.audit.files.safetensors_header import check_safetensors
from pipeline.bundle.audit.files.suite_wheel import check_wheel
from pipeline.bundle.audit.files.torch_pickles import check_torch_zip, is_pickle, is_torch_zip
from pipeline.bundle.audit.files.weight_loading import check_loading, is_plain
from pipeline.bundle.audit.finding import COMMAND_LINE, AuditResult, Finding, make_finding, shorten, sort_findings
from pipeline.bundle.audit.inventory import SUMS, check_inventory
from pipeline.bundle.audit.language.config_check import ConfigCheck
from pipeline.bundle.audit.language.config_items import METADATA, collect_ids, list_items
from pipeline.bundle.audit.language.config_reading import check_size, name_suffix, read_config_data
from pipeline.bundle.audit.language.macro_files import follow_macros
from pipeline.bundle.audit.typed_values import TypedValues
from pipeline.bundle.config_files import DOWNLOADS, list_downloads

WEIGHTS = "models/model.pt"
MOST_CONFIG_BYTES = 20_000_000
_WEIGHTS = (".pt", ".pth", ".ckpt", ".ts")
_ARCHIVES = (b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd")


def audit_bundle(
    source: Path | BundleSource,
    *,
    overrides: Mapping[str, Any] | None = None,
    own: Mapping[str, bytes] | None = None,
    configs: Collection[str] | None = None,
    allowances: Allowances | None = None,
    allow_code: bool = False,
    load_weights: bool = False,
) -> AuditResult:
    """Audit a bundle's folder or archive.

    Args:
        source: folder, zip file, or the files themselves.
        overrides: values by id, as on the command line of a run; they are judged like a config.
        own: content of the receiver's own config files by path, judged in the same way: somebody may have sent them.
        configs: paths within the bundle of the configs that will run, to which those are added that they read by a
            macro; the default is all. Metadata always count.
        allowances: what the receiver allows.
        allow_code: list code and what it imports and calls instead of refusing it.
        load_weights: also load weights that look harmless, in a process of its own with limits.

    Returns:
        All findings.

    Raises:
        InputError: there is no bundle.

    Example:
        >>> result = audit_bundle(Path("my_bundle"))  # doctest: +SKIP
        >>> [finding.code for finding in result.errors]  # doctest: +SKIP
        []
    """
    with warnings.catch_warnings():
        # Python warns of odd texts that it parses.
        warnings.simplefilter("ignore", SyntaxWarning)
        files = open_source(source) if isinstance(source, Path) else source
        typed = TypedValues(overrides or {}, own or {})
        return _audit(files, typed, configs, allowances or Allowances(), allow_code, load_weights)


def audit_configs(source: Path, overrides: Mapping[str, Any] | None = None) -> tuple[Finding, ...]:
    """Return what `audit_bundle` finds in the configs of a bundle, without a look into its other files.

    Args:
        source: folder or zip file.
        overrides: values by id.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        audit = _Audit(open_source(source), Allowances(), allow_code=False)
        return sort_findings(audit.check_configs(TypedValues(overrides or {}, {}), None))


def _audit(
    files: BundleSource,
    typed: TypedValues,
    configs: Collection[str] | None,
    allowances: Allowances,
    allow_code: bool,
    load_weights: bool,
) -> AuditResult:
    audit = _Audit(files, allowances, allow_code=allow_code)
    if files.problems and not files.sizes:
        return AuditResult(files.name, sort_findings(files.problems))
    findings = [*files.problems, *audit.check_files(), *audit.check_configs(typed, configs)]
    if load_weights:
        # A network is built only from what was found to be harmless.
        harmless = not any(finding.level == "error" for finding in findings)
        findings += list(audit.load_weights(build=harmless))
    digests = audit.reader.digests
    downloads = list_downloads(audit.data.get(DOWNLOADS))
    findings += [*audit.reader.problems, *check_inventory(audit.reader.read(SUMS), digests, downloads)]
    digests = {**digests, **typed.digests}
    return AuditResult(files.name, sort_findings(audit.allowances.apply(findings, digests)), digests)


class _Audit:
    def __init__(self, files: BundleSource, allowances: Allowances, *, allow_code: bool) -> None:
        self.sizes = files.sizes
        self.reader = Reader(files)
        self.allowances = allowances
        self.allow_code = allow_code
        self.loadable: list[str] = []
        self.data: dict[str, Any] = {}
        self.config_bytes = 0
        self.machine = private_data.name_this_machine()

    def check_files(self) -> Iterator[Finding]:
        """Yield the findings of every file by itself."""
        for path in sorted(self.sizes):
            with self.reader.open(path) as stream:
                if stream is not None:
                    yield from self._check_file(path, stream)
            if not name_suffix(path) and path != SUMS:
                self.reader.forget(path)

    def _check_file(self, path: str, stream: IO[bytes]) -> Iterator[Finding]:
        head = code_files.read_head(stream)
        code = list(code_files.check_code(path, head))
        content = self.reader.read(path)
        if self.allow_code and any(finding.code == "unexpected-code" for finding in code):
            code = [code_files.summarise_code(path, content)]
        kinds = code or list(private_data.check_kind(path, head))
        yield from kinds
        if not kinds:
            yield from self._check_content(path, head, stream)
        if is_logging_file(path):  # whatever else its bytes look like
            yield from check_logging(path, content)
        if content is not None and b"\0" not in head:
            yield from private_data.check_text(path, content, self.machine)
        elif content is None and not kinds and code_files.is_text(head):
            why = f"{self.sizes[path]} bytes of text, which is too large to be searched for what is private"
            yield make_finding("unknown-file", path, "", why)

    def _check_content(self, path: str, head: bytes, stream: IO[bytes]) -> Iterator[Finding]:
        suffix = code_files.name_extension(path)
        if suffix == ".safetensors":
            yield from check_safetensors(path, stream, self.sizes[path])
        elif suffix == ".whl":
            yield from check_wheel(path, stream)
        elif head.startswith(b"PK\x03\x04"):  # by these bytes torch decides, too
            yield from self._check_zip(path, suffix, stream)
        elif suffix in _WEIGHTS or is_pickle(head):
            yield make_finding("weights-legacy", path)
        elif head.startswith((*_ARCHIVES, b"PK")) or head[257:262] == b"ustar":
            yield make_finding("nested-archive", path)
        elif not code_files.is_known(path):
            yield make_finding("unknown-file", path)

    def _check_zip(self, path: str, suffix: str, stream: IO[bytes]) -> Iterator[Finding]:
        if suffix not in _WEIGHTS and not is_torch_zip(stream):
            yield make_finding("nested-archive", path)
            return
        findings = list(check_torch_zip(path, stream))
        yield from findings
        if not findings:
            self.loadable.append(path)

    def load_weights(self, *, build: bool) -> Iterator[Finding]:
        """Yield what torch refuses to load, and weights that do not fit the network.

        Args:
            build: build the network to compare it.
        """
        networks = [data.get("network_def") for data in self.data.values() if isinstance(data, dict)]
        plain = [network for network in networks if isinstance(network, dict) and is_plain(network)]
        for path in self.loadable:
            compared = plain[0] if build and plain and path == WEIGHTS else None
            with self.reader.open(path) as stream:
                if stream is not None:
                    yield from check_loading(path, stream, self.sizes[path], compared)

    def check_configs(self, typed: TypedValues, chosen: Collection[str] | None) -> Iterator[Finding]:
        """Yield the findings of all configs together, because they override each other."""
        data = self.data
        for path in sorted(self.sizes):
            if name_suffix(path):
                data[path], findings = self._read_config(path)
                yield from findings
        typed_data, findings = typed.read()
        yield from findings
        data.update(typed_data)
        chosen = None if chosen is None else follow_macros({*chosen, *typed_data}, data)
        ids = collect_ids(data, self._name_own_modules(), self.allowances.targets)
        check = ConfigCheck(ids, self.sizes)
        for path, values in data.items():
            if chosen is None or path in (*chosen, METADATA):
                yield from check.check(path, values)
                yield from _find_paths(path, values)
            if is_download_list(path):
                yield from check_downloads(path, values)
        if not any(path.startswith("configs/") for path in data):
            yield make_finding("not-a-bundle", "")
        yield from check_metadata(METADATA, data.get(METADATA), self.sizes)

    def _read_config(self, path: str) -> tuple[Any, list[Finding]]:
        large = check_size(path, self.sizes[path])
        self.config_bytes += 0 if large else self.sizes[path]
        if self.config_bytes > MOST_CONFIG_BYTES:
            return None, [make_finding("config-too-large", path, why=f"all configs exceed {MOST_CONFIG_BYTES} bytes")]
        content = None if large else self.reader.read(path)
        return (None, [large] if large else []) if content is None else read_config_data(path, content)

    def _name_own_modules(self) -> frozenset[str]:
        tops = {path.removesuffix(".py").partition("/")[0] for path in self.sizes if path.endswith(".py")}
        return frozenset(top for top in tops if top.isidentifier())


def _find_paths(path: str, data: Any) -> Iterator[Finding]:
    for item in list_items(path, data):
        if isinstance(item.value, str) and item.is_setting:
            # What a receiver types names the receiver's own folders.
            if private_data.is_absolute_path(item.value) and not path.startswith(COMMAND_LINE):
                yield make_finding("absolute-path", path, item.place, shorten(item.value))
            if private_data.is_code_path(item.value):
                yield make_finding("code-path", path, item.place, shorten(item.value))
