"""Warn when another installed distribution also brings a package named ``pipeline``."""

DISTRIBUTION = "monai-segmentation-suite"


def find_rivals() -> list[str]:
    """Return the names of other distributions that have installed files in a package ``pipeline``.

    Editable installs have no such files, so neither this project's own one nor a checkout on the path is reported.
    """
    from importlib import metadata  # slow to import, and not needed for --help

    rivals = set()
    for distribution in metadata.distributions():
        if "\npipeline/" in "\n" + (distribution.read_text("RECORD") or ""):
            rivals.add(distribution.metadata["Name"])
    return sorted(rivals - {DISTRIBUTION})


def describe_rivals() -> str:
    """Return a warning about other packages ``pipeline``; empty if there are none."""
    rivals = ", ".join(find_rivals())
    return rivals and (
        f"warning: {rivals} also installs a Python package named 'pipeline', so the two overwrite or hide each other;"
        f" uninstall it, or keep {DISTRIBUTION} in a separate environment"
    )
