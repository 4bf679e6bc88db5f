"""What a command line would run, and what the audit says about it."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bundle.audit import Allowances, AuditResult, Finding, audit_bundle
from pipeline.bundle.audit.bundle_source import Reader, open_source
from pipeline.bundle.audit.language.config_reading import read_config_data
from pipeline.bundle.running.chosen_configs import Chosen, choose_configs, list_root_ids
from pipeline.bundle.running.decision import explain_refusal, list_refused
from pipeline.bundle.running.start import place_root, start_monai
from pipeline.bundle.running.typed_words import read_typed


@dataclass(frozen=True)
class Plan:
    """A run that was audited and has not started."""

    received: Path  #: folder or zip file
    chosen: Chosen  #: its configs, with files of the receiver's
    typed: Mapping[str, Any]  #: values by id
    words: Sequence[str]  #: the same as typed
    result: AuditResult  #: of the audit of all that
    refused: Sequence[Finding]  #: findings that nobody has allowed

    def explain_refusal(self, bundle: Path, allowances: Allowances, file: Path | None) -> str:
        """Return what to do next if the bundle may not run; "" if it may.

        Args:
            bundle: folder or archive, as typed.
            allowances: what the receiver allows.
            file: where the receiver wrote that.
        """
        return explain_refusal(bundle, self.result, self.refused, allowances, file) if self.refused else ""

    def describe(self, bundle: str) -> str:
        """Return what would run, as a command of MONAI's."""
        files = self.chosen.locate(Path(bundle))
        named = files[0] if len(files) == 1 else repr(files)
        return f"would run: python -m monai.bundle run --config_file {shlex.join([named, *self.words])}"

    def start(self, root: Path) -> None:
        """Run it.

        Args:
            root: the bundle's folder, unpacked.

        Raises:
            InputError: a file has changed since the audit.
        """
        contents = {path: (root / path).read_bytes() for path in self.chosen.of_bundle}
        configs = [read_config_data(path, content)[0] for path, content in contents.items()]
        values = {**place_root(root, configs, self.typed), **self.typed}
        start_monai(root, self.chosen, values, self.words, self.result)


def make_plan(
    received: Path, configs: Sequence[str], words: Sequence[str], allowances: Allowances, *, allow_code: bool = False
) -> Plan:
    """Audit what a command line would run: configs, files and values of the receiver's, and the rest of the bundle.

    Args:
        received: folder or zip file.
        configs: names of configs, then paths of files of the receiver's that change them.
        words: overrides, as typed.
        allowances: what the receiver allows.
        allow_code: the receiver lets the bundle's own code run.

    Raises:
        InputError: there is no such bundle or config, or a word cannot be read.
    """
    source = open_source(received)
    if source.problems and not source.sizes:  # an archive that cannot be opened has no configs
        result = audit_bundle(source)
        return Plan(received, Chosen([]), {}, words, result, list_refused(result))
    chosen = choose_configs(configs, source.sizes, received)
    reader = Reader(source)
    contents = {path: reader.read(path) for path in chosen.of_bundle}
    own = {str(path): content for path, content in chosen.own.items()}
    typed = read_typed(words, list_root_ids({**contents, **own}))
    result = audit_bundle(
        source, overrides=typed, own=own, configs=chosen.of_bundle, allowances=allowances, allow_code=allow_code
    )
    return Plan(received, chosen, typed, words, result, list_refused(result, allow_code=allow_code))
