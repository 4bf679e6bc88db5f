"""Interrupted, refused and false transfers; every byte that the server sends is counted."""

import os
import socket
import subprocess

import pytest

from pipeline.atomic import format_bytes
from pipeline.datasets.download import transfer
from pipeline.datasets.download.connection import RefusedError, check_redirect
from pipeline.datasets.download.transfer import Origin, PartialFile, Patience, fetch
from pipeline.issues import InputError

CONTENT = os.urandom(300_000)


@pytest.fixture
def target(tmp_path, server):
    server.files["set.zip"] = CONTENT
    return tmp_path / "folder" / "set.zip"


def names(target):
    return sorted(path.name for path in target.parent.iterdir())


def test_a_whole_file(server, target, quick):
    assert fetch([server.url("set.zip")], target, patience=quick) == server.url("set.zip")
    assert target.read_bytes() == CONTENT
    assert names(target) == ["set.zip"]
    assert server.requests[0].range is None


def test_an_empty_file(server, target, quick):
    server.files["set.zip"] = b""
    fetch([server.url("set.zip")], target, patience=quick)
    assert target.read_bytes() == b""


def test_after_cuts_only_the_rest_is_transferred(server, target, quick, act):
    server.script = [act(cut=100_000), act(cut=70_000), act(status=503)]
    fetch([server.url("set.zip")], target, patience=quick)
    assert target.read_bytes() == CONTENT
    assert [request.range for request in server.requests] == [None, "bytes=100000-", "bytes=170000-", "bytes=170000-"]
    assert {request.if_range for request in server.requests[1:]} == {'"v1"'}
    assert server.sent == len(CONTENT)


def test_a_second_call_goes_on_where_the_first_gave_up(server, target, quick, act, capsys):
    server.script = [act(cut=100_000), *[act(status=500)] * 3]
    with pytest.raises(InputError, match=r"answered 500 .*tried 3 times.*100\.0 kB are kept in .*\.part, the same"):
        fetch([server.url("set.zip")], target, patience=quick)
    assert names(target) == ["set.zip.part", "set.zip.part.json"]
    assert (
        "the connection closed at byte 100000 of 300000; trying again in 0 s from 100.0 kB on"
        in capsys.readouterr().err
    )
    fetch([server.url("set.zip")], target, patience=quick)
    assert target.read_bytes() == CONTENT
    assert server.sent == len(CONTENT)
    assert names(target) == ["set.zip"]


def test_progress_renews_patience(server, target, quick, act):
    server.script = [act(cut=20_000)] * 10
    fetch([server.url("set.zip")], target, patience=quick)
    assert server.sent == len(CONTENT)


def test_a_server_without_ranges_sends_all_again(server, target, quick, act, capsys):
    server.ranges = False
    server.script = [act(cut=100_000)]
    fetch([server.url("set.zip")], target, patience=quick)
    assert target.read_bytes() == CONTENT
    assert server.sent == len(CONTENT) + 100_000
    assert "sent the whole file" in capsys.readouterr().err


def test_a_server_without_ranges_that_always_cuts_is_given_up(server, target, quick, act):
    server.ranges = False
    server.script = [act(cut=100_000)] * 20
    with pytest.raises(InputError, match="tried 3 times"):
        fetch([server.url("set.zip")], target, patience=quick)
    assert len(server.requests) == 3


def test_a_file_that_changed_comes_whole(server, target, quick, act):
    server.script = [act(cut=100_000), *[act(status=500)] * 3]
    with pytest.raises(InputError):
        fetch([server.url("set.zip")], target, patience=quick)
    server.files["set.zip"], server.etag = bytes(200_000), '"v2"'
    fetch([server.url("set.zip")], target, patience=quick)
    assert target.read_bytes() == bytes(200_000)


def test_a_weak_tag_is_no_proof_but_a_date_is(server, target, quick, act, http_date):
    server.etag, server.modified = 'W/"same"', http_date
    server.script = [act(cut=100_000)]
    fetch([server.url("set.zip")], target, patience=quick)
    assert server.requests[1].if_range == http_date
    assert server.sent == len(CONTENT)


@pytest.mark.parametrize(("known", "resent"), [(False, 100_000), (True, 0)])
def test_without_a_version_a_part_is_kept_only_if_a_checksum_is_known(server, target, quick, act, known, resent):
    server.etag = None
    server.script = [act(cut=100_000)]
    fetch([server.url("set.zip")], target, checksum_known=known, patience=quick)
    assert target.read_bytes() == CONTENT
    assert server.sent == len(CONTENT) + resent


def test_another_size_without_a_version_starts_again(server, target, quick, act):
    server.etag = None
    server.script = [act(cut=100_000), *[act(status=500)] * 3]
    with pytest.raises(InputError):
        fetch([server.url("set.zip")], target, checksum_known=True, patience=quick)
    server.files["set.zip"] = bytes(250_000)
    fetch([server.url("set.zip")], target, checksum_known=True, patience=quick)
    assert target.read_bytes() == bytes(250_000)


def test_416_of_a_complete_part(server, target, quick):
    part = PartialFile(target)
    part.begin(Origin(server.url("set.zip"), '"v1"', None))
    part.path.write_bytes(CONTENT)
    fetch([server.url("set.zip")], target, patience=quick)
    assert target.read_bytes() == CONTENT
    assert server.sent == 0


def test_416_of_a_part_that_is_too_long_starts_again(server, target, quick):
    part = PartialFile(target)
    part.begin(Origin(server.url("set.zip"), '"v1"', None))
    part.path.write_bytes(CONTENT + b"more")
    fetch([server.url("set.zip")], target, patience=quick)
    assert target.read_bytes() == CONTENT


def test_a_complete_part_needs_no_server(server, target, quick):
    part = PartialFile(target)
    part.begin(Origin(server.url("set.zip"), '"v1"', len(CONTENT)))
    part.path.write_bytes(CONTENT)
    fetch([server.url("set.zip")], target, patience=quick)
    assert server.requests == []


@pytest.mark.parametrize("note", ["", "{", "[]", '{"url": 1}', None])
def test_a_part_of_unknown_origin_is_not_trusted(server, target, quick, note):
    part = PartialFile(target)
    target.parent.mkdir()
    part.path.write_bytes(b"x" * 1000)
    if note is not None:
        (target.parent / "set.zip.part.json").write_text(note)
    fetch([server.url("set.zip")], target, patience=quick)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_not_asked_again_but_the_next_address_is(server, target, quick, act, status):
    server.files["mirror.zip"] = CONTENT
    server.script = [act(status=status)]
    urls = [server.url("set.zip"), server.url("mirror.zip")]
    assert fetch(urls, target, patience=quick) == urls[1]
    assert [request.path for request in server.requests] == ["set.zip", "mirror.zip"]


def test_the_next_address_completes_the_part_if_a_checksum_is_known(server, target, quick, act):
    server.files["mirror.zip"], server.etag = CONTENT, None
    server.script = [act(cut=100_000), act(status=404)]
    fetch([server.url("set.zip"), server.url("mirror.zip")], target, checksum_known=True, patience=quick)
    assert target.read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


def test_all_addresses_are_named_when_none_works(server, target, quick):
    with pytest.raises(InputError) as caught:
        fetch([server.url("a.zip"), server.url("b.zip")], target, patience=quick)
    line = str(caught.value)
    assert line.startswith("cannot download set.zip: ")
    assert "/a.zip answered 404 Not Found; " in line
    assert "/b.zip answered 404 Not Found; or get the file by other means, save it as " in line


@pytest.mark.parametrize(
    ("header", "least"), [("0.2", 0.0), ("1", 0.3), ("Fri, 31 Dec 2100 00:00:00 GMT", 0.3), ("soon", 0.0)]
)
def test_429_waits_as_asked_but_not_for_ever(server, target, act, monkeypatch, header, least):
    waits = []
    monkeypatch.setattr(transfer.time, "sleep", waits.append)
    server.script = [act(status=429, headers={"Retry-After": header})]
    fetch([server.url("set.zip")], target, patience=Patience(1, 3, 0.01, 0.3))
    assert len(waits) == 1
    assert least <= waits[0] <= 0.3
    assert target.read_bytes() == CONTENT


def test_waits_double():
    patience = Patience(30, 6, 1, 60)
    assert [patience.compute_wait(count, 0) for count in (1, 2, 3, 10)] == [1, 2, 4, 60]


def test_a_silent_server_is_left_after_the_timeout(server, target, act):
    server.script = [act(stall=50_000)]
    fetch([server.url("set.zip")], target, patience=Patience(0.2, 3, 0.01, 0.05))
    assert target.read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


def test_nobody_listens(tmp_path, quick):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/set.zip"
    with pytest.raises(InputError, match=r"Connection refused \(tried 3 times\); or get"):
        fetch([url], tmp_path / "set.zip", patience=quick)


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"Content-Type": "text/html; charset=utf-8"}, "a web page instead of an archive"),
        ({"Content-Encoding": "gzip"}, "Content-Encoding gzip, which was not requested"),
    ],
)
def test_answers_that_are_not_an_archive(server, target, quick, act, headers, text):
    server.script = [act(headers=headers)]
    with pytest.raises(InputError, match=text):
        fetch([server.url("set.zip")], target, patience=quick)


@pytest.mark.parametrize("value", ["bytes 5-299999/300000", "bytes */300000", "", "chapters 1-2/3"])
def test_a_part_that_was_not_asked_for_is_not_appended(server, target, quick, act, value):
    server.script = [act(cut=100_000), act(headers={"Content-Range": value})]
    with pytest.raises(InputError, match=r"sent bytes from 5|without saying which bytes"):
        fetch([server.url("set.zip")], target, patience=quick)
    assert (target.parent / "set.zip.part").read_bytes() == CONTENT[:100_000]


def test_a_redirect_is_followed(server, target, quick, act):
    server.files["there.zip"] = CONTENT
    server.script = [act(status=302, headers={"Location": "/there.zip"}), act(cut=100_000)]
    server.script.append(act(status=302, headers={"Location": "/there.zip"}))
    fetch([server.url("set.zip")], target, patience=quick)
    assert target.read_bytes() == CONTENT
    assert server.sent == len(CONTENT)
    assert server.requests[-1].range == "bytes=100000-"


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://127.0.0.1/x.zip", "data:,hello"])
def test_redirects_out_of_http_are_refused(server, target, quick, act, where):
    server.script = [act(status=302, headers={"Location": where})]
    with pytest.raises(InputError, match="not followed"):
        fetch([server.url("set.zip")], target, patience=quick)
    assert len(server.requests) == 1
    assert not target.exists()


def test_a_redirect_in_a_circle_ends(server, target, quick, act):
    server.script = [act(status=302, headers={"Location": "/set.zip"})] * 50
    with pytest.raises(InputError, match="redirect"):
        fetch([server.url("set.zip")], target, patience=quick)
    assert len(server.requests) < 20


def test_a_redirect_from_https_to_http_is_refused():
    with pytest.raises(RefusedError, match="redirects to http://example"):
        check_redirect("https://example.org/set.zip", "http://example.org/set.zip")


@pytest.mark.parametrize("form", ["{}", "http://{}", "http://user:secret@{}"])
def test_a_proxy_of_the_environment_is_used(server, tmp_path, quick, monkeypatch, form):
    server.files["http://example.test/set.zip"] = CONTENT
    monkeypatch.setenv("http_proxy", form.format(server.base.removeprefix("http://")))
    monkeypatch.setenv("no_proxy", "localhost")
    fetch(["http://example.test/set.zip"], tmp_path / "set.zip", patience=quick)
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_a_proxy_is_not_used_where_the_environment_excludes_it(server, target, quick, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fetch([server.url("set.zip")], target, patience=quick)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "/etc/passwd"])
def test_only_http_addresses(tmp_path, quick, url):
    with pytest.raises(InputError, match="is not an http or https address"):
        fetch([url], tmp_path / "x", patience=quick)


def test_a_file_without_length(server, target, quick):
    server.length = False
    fetch([server.url("set.zip")], target, patience=quick)
    assert target.read_bytes() == CONTENT


def test_a_file_that_is_too_long_is_not_taken(server, target, quick):
    with pytest.raises(InputError, match=r"has 300\.0 kB, expected at most 200\.0 kB"):
        fetch([server.url("set.zip")], target, largest=200_000, patience=quick)
    assert server.sent <= len(CONTENT)
    server.length = False
    with pytest.raises(InputError, match=r"is longer than 200\.0 kB"):
        fetch([server.url("set.zip")], target, largest=200_000, patience=quick)
    assert (target.parent / "set.zip.part").stat().st_size == 0


def test_a_file_that_cannot_fit_is_refused_before_its_first_byte(server, target, quick, monkeypatch):
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"^output-space: .*: 1\.0 kB free but 300\.0 kB needed; free some"):
        fetch([server.url("set.zip")], target, patience=quick)
    assert not (target.parent / "set.zip.part").exists()


@pytest.mark.fault
def test_a_disk_that_fills_up_under_way(server, small_disk, quick):
    server.files["set.zip"] = content = os.urandom(5_000_000)
    server.length = False  # so that it is not foreseen
    target = small_disk / "set.zip"
    with pytest.raises(InputError, match=r"^output-space: .*: \d+ B free; free some space"):
        fetch([server.url("set.zip")], target, patience=quick)
    arrived = (small_disk / "set.zip.part").stat().st_size
    assert 3_000_000 < arrived < 4_200_000
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    fetch([server.url("set.zip")], target, patience=quick)
    assert target.read_bytes() == content
    assert server.requests[-1].range == f"bytes={arrived}-"


def test_sizes_in_words():
    assert [format_bytes(count) for count in (0, 999, 1000, 11_165_358_566, 5e15)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "11.2 GB",
        "5000.0 TB",
    ]
