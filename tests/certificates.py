"""Certificates that this machine makes itself: an authority, and what it vouches for."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID


def make(folder, addresses, names=("localhost",), days=(-1, 2)):
    """`ca.pem`, `cert.pem` and `key.pem` for machines with these addresses and names; returns the three paths."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    known = x509.SubjectAlternativeName([
        *(x509.IPAddress(ipaddress.ip_address(each)) for each in addresses), *map(x509.DNSName, names),
    ])  # fmt: skip
    own = _signed("an authority", authority, authority, (x509.BasicConstraints(True, None), True), days)
    cert = _signed("a machine", key, authority, (known, False), days)
    made = {"ca.pem": own, "cert.pem": cert, "key.pem": pem(key)}
    for name, content in made.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(content)
    return [folder / name for name in made]


def pem(key, passphrase=b""):
    """A key as a file holds it."""
    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)


def _signed(name, key, authority, extension, days):
    now = datetime.datetime.now(datetime.UTC)
    first, last = (now + datetime.timedelta(days=each) for each in days)
    subject, issuer = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, "an authority")
    )
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(first).not_valid_after(last).add_extension(*extension)
    return builder.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM)
