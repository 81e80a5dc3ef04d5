"""Certificates of a cluster: an authority of its own, and what its machines show each other.

    ca.pem      the authority; whoever has it knows the cluster's machines
    ca.key      its key, which leaves this machine never
    cert.pem    what the machines show; it names all their addresses
    key.pem     its key

Ray asks for a certificate on both sides, so a machine without one gets no word out of another.
"""

import datetime
import ipaddress
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genloom.errors import RequestError
from genloom_platform.settings import read_yaml

if TYPE_CHECKING:
    from cryptography import x509

LOOPBACK = "127.0.0.1"
AUTHORITY_DAYS, MACHINES_DAYS = 3650, 365
RENEWED_DAYS = 30
"""A certificate that counts for less than this is made anew."""
EARLIER = datetime.timedelta(hours=1)
"""Clocks differ."""


def folder(name: str) -> Path:
    """Where the certificates of a cluster lie on the machine that it is started from."""
    return Path.home() / ".genloom" / "tls" / name


def addresses(file: Path) -> list[str]:
    """The machines that a file of `ray up` names.

    Raises:
        RequestError: It is missing or no YAML; or it names none, as a cloud's, whose machines have addresses only
            when they come.
    """
    told: dict[str, Any] = read_yaml(str(file)).get("provider") or {}
    found = [each for each in (told.get("head_ip"), *(told.get("worker_ips") or [])) if each]
    if not found:
        raise RequestError(
            f"tls: {file} names no machines by head_ip and worker_ips, so no certificate can name them; leave "
            "tls out where a cloud makes the machines, and let its network encrypt"
        )
    return found


def make(where: Path, machines: Iterable[str]) -> None:
    """Make what is missing, and anew what has nearly expired or does not name the machines.

    Args:
        where: The folder.
        machines: The addresses of the machines, or their names.

    Raises:
        RequestError: `cryptography` is not installed here.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise RequestError("certificates are made by cryptography; pip install cryptography") from error

    where.mkdir(parents=True, exist_ok=True, mode=0o700)
    named = sorted({*machines, LOOPBACK})
    if not (where / "ca.pem").exists():
        key = ec.generate_private_key(ec.SECP256R1())
        own = x509.BasicConstraints(ca=True, path_length=0)
        _write(where / "ca.key", _pem(key))
        _write(where / "ca.pem", _signed(f"genloom {where.name}", key, None, key, own, AUTHORITY_DAYS))
    elif _counts(where / "cert.pem", named):
        return
    authority = x509.load_pem_x509_certificate((where / "ca.pem").read_bytes())
    authority_key: Any = load_pem_private_key((where / "ca.key").read_bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    known = x509.SubjectAlternativeName([_name(each) for each in named])
    _write(where / "key.pem", _pem(key))
    _write(where / "cert.pem", _signed(where.name, key, authority, authority_key, known, MACHINES_DAYS))


def expires(cert: Path) -> datetime.datetime:
    """When a certificate counts no more."""
    from cryptography import x509

    return x509.load_pem_x509_certificates(cert.read_bytes())[0].not_valid_after_utc


def _counts(cert: Path, named: list[str]) -> bool:
    """Whether a certificate names the machines, and will for a while."""
    from cryptography import x509

    if not cert.exists():
        return False
    found = x509.load_pem_x509_certificate(cert.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    left = found.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return sorted(str(each.value) for each in names) == named and left.days >= RENEWED_DAYS


def _name(machine: str) -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(machine))
    except ValueError:
        return x509.DNSName(machine)


def _signed(
    name: str,
    key: Any,
    authority: "x509.Certificate | None",
    authority_key: Any,
    extension: Any,
    days: int,
) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(extension, critical=authority is None)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(identifier, critical=False)
    )
    return builder.sign(authority_key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes) -> None:
    """Write a file that only this user can read, whole or not at all."""
    draft = path.with_suffix(".part")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    draft.replace(path)
