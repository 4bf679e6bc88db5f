"""Compare a bundle's files with the SHA256SUMS in it."""

import re
from collections.abc import Iterator, Mapping

from pipeline.bundle.audit.finding import Finding, make_finding, shorten

SUMS = "SHA256SUMS"
# Files that vouch for the others, and so cannot be listed by them.
_VOUCHERS = {SUMS, f"{SUMS}.sig", "model.sig", "signature.sig", "signature.json"}
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def read_sums(content: bytes) -> tuple[dict[str, str], list[Finding]]:
    """Read a file as ``sha256sum`` writes it.

    Returns:
        The digests by path, and what is wrong with the file.
    """
    sums: dict[str, str] = {}
    findings = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
        found = _LINE.fullmatch(line)
        path = found[2].removeprefix("./") if found else ""
        if found is None or path in sums:
            why = f"{path} is listed twice" if found else shorten(line)
            findings.append(make_finding("checksum-syntax", SUMS, f"line {number}", why))
        else:
            sums[path] = found[1]
    return sums, findings


def check_inventory(
    content: bytes | None, digests: Mapping[str, str], downloads: Mapping[str, str] | None = None
) -> Iterator[Finding]:
    """Yield the files that were changed, are missing, or are not listed.

    Args:
        content: of SHA256SUMS; None if the bundle has none, which is no finding.
        digests: SHA-256 of every file.
        downloads: SHA-256 of the files that the receiver has downloaded, where `large_files.yml` gives it. They came
            after SHA256SUMS was written.
    """
    fetched = {path: digest for path, digest in (downloads or {}).items() if digest and path in digests}
    for path, digest in fetched.items():
        if digests[path] != digest:
            yield make_finding("changed-file", path, why="it is not the file that large_files.yml names")
    if content is None:
        return
    sums, findings = read_sums(content)
    yield from findings
    for path, digest in sums.items():
        if path not in digests:
            yield make_finding("missing-file", path)
        elif digests[path] != digest:
            yield make_finding(
                "changed-file", path, why=f"its SHA-256 begins with {digests[path][:12]}, not {digest[:12]}"
            )
    for path in sorted(set(digests) - set(sums) - set(fetched) - _VOUCHERS):
        yield make_finding("extra-file", path)
