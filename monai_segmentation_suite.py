"""Entry point of the command ``pipeline``, outside of the package: it can report a package that hides ours."""

import importlib.util
import sys
from pathlib import Path


def main() -> int:
    """Run the command line, or report in one line that another package ``pipeline`` is imported instead of ours."""
    spec = importlib.util.find_spec("pipeline")
    places = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    if not any((place / "commands" / "cli.py").is_file() for place in places):
        found = spec.origin or places[0] if spec and (spec.origin or places) else "nothing"
        print(
            f"error: the name 'pipeline' leads to {found}, which is not the package of monai-segmentation-suite;"
            " uninstall or rename the other one, or use a separate environment",
            file=sys.stderr,
        )
        return 1
    from pipeline.commands.cli import main as run

    return run()
