"""A small packed bundle, an authority that the machine trusts for the test, and servers with its certificates."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.bundle.packing.reproducible_zip import write_zip
from pipeline.datasets.download import transfer
from tests.bundle.audit.bundles import Files, make_files
from tests.bundle.sharing.hub_server import TOKEN, HubServer
from tests.datasets.download.conftest import QUICK, Server

NAME = "spleen"


def pack(path: Path, changes: Files | None = None) -> Path:
    """Write a clean bundle with its digests as a zip file; the same files give the same bytes."""
    files: Files = {**make_files(), "docs/data_license.txt": b"Data: CC BY 4.0\n", **(changes or {})}
    sums = (f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))
    files["SHA256SUMS"] = "".join(sums).encode()
    with path.open("wb") as stream:
        write_zip(stream, {f"{NAME}/{name}": content for name, content in files.items()})
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return pack(folder / "spleen.zip")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the empty folder in which the receiver types."""
    folder = tmp_path / "receiver"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@dataclass
class Authority:
    """An authority of certificates."""

    folder: Path

    def __post_init__(self) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test authority")])
        self.file = self.folder / "authority.pem"
        self._write(self.file, self.key, self.name, x509.BasicConstraints(ca=True, path_length=None))

    def certify(self, *hosts: str) -> ssl.SSLContext:
        """Return what a server of these hosts needs."""
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        names = [
            x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host) for host in hosts
        ]
        file = self.folder / f"{hosts[0]}.pem"
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0])])
        self._write(file, key, subject, x509.SubjectAlternativeName(names))
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        with file.open("ab") as stream:
            stream.write(key.private_bytes(*form))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _write(self, file: Path, key: object, subject: object, extension: object) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization

        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(
            issuer_name=self.name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(days=1),
            not_valid_after=now + datetime.timedelta(days=1),
        )
        signed = builder.add_extension(extension, critical=False).sign(self.key, hashes.SHA256())
        file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    pytest.importorskip("cryptography", reason="the extra sign, which brings cryptography, is not installed")
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this machine trust the authority, as a hospital's machines trust its own."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    monkeypatch.setattr(transfer, "PATIENCE", QUICK)


@pytest.fixture
def web(authority: Authority, trusted: None) -> Iterator[Server]:
    """Yield an https server on 127.0.0.1."""
    running = Server(authority.certify("127.0.0.1"))
    yield running
    running.close()


def set_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Do what HF_ENDPOINT does, which the client reads only once, when it is imported."""
    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(authority: Authority, trusted: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """Yield a Hugging Face hub on 127.0.0.1 whose stored files are on the host localhost; this user has a token."""
    huggingface_hub = pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
    running = HubServer(authority.certify("127.0.0.1", "localhost"))
    set_endpoint(monkeypatch, running.base)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no_token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    huggingface_hub.close_session()
    yield running
    huggingface_hub.close_session()
    running.close()
