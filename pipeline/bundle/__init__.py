"""The tools around bundles: list them, make a new one from an existing one. The experiments are in ``bundles/``.

Configs call `StartupCheck` first.
"""

from pipeline.bundle.overrides.startup import StartupCheck

__all__ = ["StartupCheck"]
