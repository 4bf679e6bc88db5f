"""JSON that Python takes and the standard does not."""

import time

import pytest

from pipeline.datasets.manifests.strict_json import MAX_FINDINGS, parse_json


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ('{"a": 1, "b": {"a": 2}, "c": ["a", "a"]}', []),
        ('{"a": 1,\n "a": 2}', ["line 2 column 2: duplicate key 'a'"]),
        (
            '{"a": {"b": 1, "b": 2}, "a": 3}',
            ["line 1 column 16: duplicate key 'b'", "line 1 column 25: duplicate key 'a'"],
        ),
        ('{"a": NaN,\n"b": [1,\n -Infinity]}', ["line 1 column 7: NaN is not", "line 3 column 2: -Infinity is not"]),
        ('{"a": "NaN: {", "b": "\\"}"}', []),
        ('{"\\u0061": 1, "a": 2}', ["line 1 column 15: duplicate key 'a'"]),
    ],
)
def test_findings_have_places(text: str, messages: list[str]) -> None:
    data, issues = parse_json(text.encode())
    assert (data is None) == bool(messages)
    assert len(issues) == len(messages)
    for issue, message in zip(issues, messages, strict=True):
        assert issue.code == "manifest-syntax"
        assert issue.message.startswith(message)


@pytest.mark.parametrize("gap", ["", "\n"])
def test_a_million_mistakes_take_no_longer_than_one(gap: str) -> None:
    content = ("{" + ",".join(f'{gap}"a": 1' for _ in range(200_000)) + "}").encode()
    start = time.perf_counter()
    data, issues = parse_json(content)
    assert (data, len(issues)) == (None, MAX_FINDINGS)
    # Seconds, not the minutes that counting lines from the start took; wide enough for any machine.
    assert time.perf_counter() - start < 20
