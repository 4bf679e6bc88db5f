"""The tools around bundles: list them, make a new one from an existing one. The experiments are in ``bundles/``."""
