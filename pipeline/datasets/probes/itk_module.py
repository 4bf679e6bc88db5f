"""ITK for threads: one of them imports it, and one at a time reads with it."""

import threading
from typing import Any

#: Held while a file is read: ITK's readers are not thread-safe in Python
READING = threading.Lock()
_IMPORT = threading.Lock()


def load_itk() -> Any:
    """Return the module ``itk``.

    It replaces itself while it is imported: a second thread that imports it at that time gets a module without readers.
    """
    with _IMPORT:
        import itk
    return itk
