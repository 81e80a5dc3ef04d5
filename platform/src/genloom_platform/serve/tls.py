"""TLS of an endpoint: its certificate and key, looked at before anything starts."""

import datetime
import ssl
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from genloom.errors import RequestError
from genloom_platform.settings import Settings

READ_BY_OTHERS = 0o007

File = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


class Tls(Settings):
    """What an endpoint shows, so that its callers speak to it alone and nobody listens."""

    cert: File
    """The certificate, and those that vouch for it, as PEM."""
    key: File
    """Its key, as PEM; a file that others cannot read."""

    @property
    def files(self) -> dict[str, Any]:
        """As uvicorn is told."""
        return {"ssl_certfile": str(self.cert), "ssl_keyfile": str(self.key)}

    @property
    def context(self) -> ssl.SSLContext:
        """For the machine's own look at its endpoint: no other certificate is taken, under whatever name."""
        made = ssl.create_default_context(cafile=str(self.cert))
        made.check_hostname = False
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return made


def check(tls: Tls) -> None:
    """Raise RequestError where an endpoint cannot speak TLS with these files."""
    for name, path in (("cert", tls.cert), ("key", tls.key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise RequestError(
                f"tls.{name} = {path}: cannot be read ({error.strerror}); give a PEM file of this machine"
            ) from error
    mode = tls.key.stat().st_mode & 0o777
    if mode & READ_BY_OTHERS:
        raise RequestError(
            f"tls.key = {tls.key}: others can read it (its mode is {mode:o}); chmod 600 it"
        )
    _check_pair(tls)
    _check_dates(tls)


def _check_pair(tls: Tls) -> None:
    asked: list[str] = []

    def passphrase() -> str:
        asked.append("")
        return ""

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert, tls.key, passphrase)
    except (ssl.SSLError, OSError) as error:
        if asked:
            rule = "asks for a passphrase, which nobody could give it; take that off: openssl pkey -in … -out …"
            raise RequestError(f"tls.key = {tls.key}: {rule}") from error
        if "KEY_VALUES_MISMATCH" in str(error):
            rule = f"is not the key of {tls.cert}; give the two that belong together"
            raise RequestError(f"tls.key = {tls.key}: {rule}") from error
        raise RequestError(
            f"tls.cert = {tls.cert}, tls.key = {tls.key}: are no certificate and key as PEM ({error}); give such"
        ) from error


def _check_dates(tls: Tls) -> None:
    from cryptography import x509

    shown, now = (
        x509.load_pem_x509_certificates(tls.cert.read_bytes())[0],
        datetime.datetime.now(datetime.UTC),
    )
    if now > shown.not_valid_after_utc:
        rule = f"has expired on {shown.not_valid_after_utc:%Y-%m-%d}; renew it"
        raise RequestError(f"tls.cert = {tls.cert}: {rule}")
    if now < shown.not_valid_before_utc:
        rule = (
            f"counts only from {shown.not_valid_before_utc:%Y-%m-%d %H:%M} on; wait, or set the clock"
        )
        raise RequestError(f"tls.cert = {tls.cert}: {rule}")
