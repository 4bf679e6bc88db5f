"""An audit's result in SARIF 2.1.0, which code hosts and editors show."""

from typing import Any

import pipeline
from pipeline.bundle.audit.codes import CODES
from pipeline.bundle.audit.finding import AuditResult, Finding

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"error": "error", "review": "warning", "note": "note"}


def to_sarif(result: AuditResult) -> dict[str, Any]:
    """Return the result for ``json.dump``."""
    used = sorted({finding.code for finding in result.findings})
    rules = [
        {
            "id": code,
            "shortDescription": {"text": CODES[code].meaning},
            "help": {"text": CODES[code].todo},
            "defaultConfiguration": {"level": _LEVELS[CODES[code].level]},
        }
        for code in used
    ]
    driver = {"name": "pipeline bundle audit", "version": pipeline.__version__, "rules": rules}
    results = [_to_result(finding, used.index(finding.code)) for finding in result.findings]
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _to_result(finding: Finding, rule: int) -> dict[str, Any]:
    location: dict[str, Any] = {}
    if finding.file:
        location["physicalLocation"] = {"artifactLocation": {"uri": finding.file}}
    if finding.key:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.key}]
    return {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": _LEVELS[finding.level],
        "message": {"text": f"{finding.why}; {finding.todo}"},
        "locations": [location] if location else [],
    }
