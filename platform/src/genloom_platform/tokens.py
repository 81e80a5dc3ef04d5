"""Tokens of clusters: files that only their owner can read, or variables of the environment."""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from genloom.errors import RequestError
from genloom_platform.profiles import Machine, Profile, Token


def read(profile: Profile) -> str:
    """The token of a cluster.

    Raises:
        RequestError: There is none, others can read it, or it is no token.
    """
    source = profile.token_source
    if source.env:
        token = os.environ.get(source.env, "")
        where = f"the environment's {source.env}"
        remedy = f"set it: whoever runs the cluster {profile.name} has its token"
    else:
        path = source.file or Path()
        token, where = _content(path, profile), str(path)
        remedy = f"whoever runs the cluster {profile.name} has its token"
    if not token:
        raise RequestError(f"the token of the cluster {profile.name} is missing in {where}; {remedy}")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise RequestError(f"{where} holds no token, which is one line of plain characters; {remedy}")
    return token


def _content(path: Path, profile: Profile) -> str:
    name = profile.name
    if not path.exists() and isinstance(profile.launch, Machine):
        raise RequestError(
            f"the cluster {name} has not been started on this machine: there is no {path}, where its token would "
            f"be; genloom cluster up {name} starts it"
        )
    if not path.exists():
        raise RequestError(
            f"the token of the cluster {name} is missing: there is no {path}; put it there (chmod 600) "
            "as whoever runs the cluster gives it to you, or start the cluster: genloom cluster up "
            f"{name}"
        )
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise RequestError(
            f"others can read the token in {path} (its mode is {mode:o}, and must be 600); chmod 600 "
            f"{path}"
        )
    try:
        return path.read_text().strip()
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{path} holds no token, which is one line of plain characters; whoever runs the cluster {name} has "
            "its token"
        ) from error
    except OSError as error:
        raise RequestError(f"cannot read the token {path}: {error.strerror}; give its file") from error


def here() -> Token:
    """Where the token of this machine's own cluster lies, as Ray looks for it."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return Token(env="RAY_AUTH_TOKEN")
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Token(file=Path(named) if named else Path.home() / ".ray" / "auth_token")


def make(path: Path) -> None:
    """Make a token where there is none, and see that only this user can read it."""
    if not path.exists():
        write(path, secrets.token_hex(32))
    path.chmod(0o600)


def write(path: Path, token: str) -> None:
    """Write a token into a new file that only this user can read; an existing one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        contextlib.suppress(FileExistsError),  # another process was first; its token serves both
        open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file,
    ):
        file.write(token)


def replace(path: Path, token: str) -> None:
    """Write a token into a file that only this user can read, in place of what it held: whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # of mode 600
    with open(descriptor, "w") as file:
        file.write(token)
    Path(draft).replace(path)
