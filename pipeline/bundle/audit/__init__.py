"""Audit a bundle before it runs: its files, configs and weights are read as data; nothing of it is run.

Example:
    >>> from pathlib import Path
    >>> from pipeline.bundle.audit import audit_bundle
    >>> audit_bundle(Path("my_bundle")).errors  # doctest: +SKIP
    []
"""

from pipeline.bundle.audit.allowances import Allowances, read_allowances
from pipeline.bundle.audit.engine import audit_bundle
from pipeline.bundle.audit.finding import AuditResult, Finding

__all__ = ["Allowances", "AuditResult", "Finding", "audit_bundle", "read_allowances"]
