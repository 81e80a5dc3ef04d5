"""Certificates of a cluster: made once, anew when they must be, read by nobody else."""

import ssl

import pytest
from cryptography import x509

from genloom_platform import certificates


@pytest.fixture
def made(tmp_path):
    certificates.make(tmp_path / "lab", ["10.0.0.5", "head.acme.internal"])
    return tmp_path / "lab"


def names(folder):
    found = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    known = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(each.value) for each in known}


def test_they_name_the_machines_and_only_their_owner_reads_them(made):
    assert names(made) == {"10.0.0.5", "127.0.0.1", "head.acme.internal"}
    assert {path.name for path in made.iterdir()} == {"ca.pem", "ca.key", "cert.pem", "key.pem"}
    assert {path.stat().st_mode & 0o777 for path in made.iterdir()} == {0o600}
    assert made.stat().st_mode & 0o777 == 0o700


def test_the_authority_vouches_for_the_machines_both_ways(made):
    """A handshake in memory, in which each side shows its certificate, as Ray's machines do."""
    contexts = [ssl.SSLContext(kind) for kind in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER)]
    for context in contexts:
        context.load_cert_chain(made / "cert.pem", made / "key.pem")
        context.load_verify_locations(made / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        contexts[0].wrap_bio(back, there, server_hostname="10.0.0.5"),
        contexts[1].wrap_bio(there, back, server_side=True),
    ]
    waiting = list(sides)
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    assert not waiting
    assert sides[1].getpeercert()["subjectAltName"]


def test_they_are_made_anew_when_machines_come_or_their_time_ends_and_the_authority_stays(
    made, monkeypatch
):
    first = {path.name: path.read_bytes() for path in made.iterdir()}
    certificates.make(made, ["head.acme.internal", "10.0.0.5"])
    assert {path.name: path.read_bytes() for path in made.iterdir()} == first
    certificates.make(made, ["10.0.0.5", "10.0.0.6", "head.acme.internal"])
    assert "10.0.0.6" in names(made)
    assert (made / "ca.pem").read_bytes() == first["ca.pem"]
    second = (made / "cert.pem").read_bytes()
    assert second != first["cert.pem"]
    monkeypatch.setattr(certificates, "RENEWED_DAYS", certificates.MACHINES_DAYS + 1)
    certificates.make(made, ["10.0.0.5", "10.0.0.6", "head.acme.internal"])
    assert (made / "cert.pem").read_bytes() != second
