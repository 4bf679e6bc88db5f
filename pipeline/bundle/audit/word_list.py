"""Long lists of names, written as running text."""


def read_words(text: str) -> frozenset[str]:
    """Return the words of a text.

    Example:
        >>> sorted(read_words(" b a "))
        ['a', 'b']
    """
    return frozenset(text.split())
