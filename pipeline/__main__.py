"""``python -m pipeline``."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        # Python has put the current folder first, where a file json.py, which somebody sent, would hide Python's own.
        sys.path.append(sys.path.pop(0))
    from pipeline.commands.cli import main

    sys.exit(main())
