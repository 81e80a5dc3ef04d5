"""What travels with a job: the files that its command names, and the team's plugin; no more than Ray takes."""

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genloom.errors import RequestError
from genloom_platform.jobs import wheel
from genloom_platform.jobs.client import Cluster
from genloom_platform.jobs.wheel import Wheel
from genloom_platform.units import size

NAMED = 3
"""How many of the files that travel are named to whoever sends them."""
SOURCE = 3
"""Which word of `data import FORMAT SOURCE` the source is."""
PEM, PRIVATE = b"-----BEGIN ", b"PRIVATE KEY-----"
"""How a file of certificates and keys begins, and what a line of it ends with where a key does."""
HEAD_BYTES = 1 << 16
SEARCHED_BYTES = 1 << 20
"""Files up to this size are searched for secrets: what people write is no larger, and data would take long."""
REMEDY = (
    "leave it out; a variable that the job needs is named in the `secrets` of the profile, and set on the "
    "cluster's machines"
)
"""What to do about a secret that would travel."""
THERE = (
    "a file of the cluster's machine is named after an equals sign, as in --tls-key=/etc/models/key.pem"
)
"""How a command names what does not travel."""


@dataclass(frozen=True)
class Luggage:
    """What one job takes along."""

    files: Path | None
    """A folder with the files that its command names, each where the command says; None without any."""
    plugin: Wheel | None
    digest: str
    """Of all of it."""

    def __str__(self) -> str:
        files = sorted(self.files.rglob("*")) if self.files else []
        names = [str(path.relative_to(self.files or path)) for path in files if path.is_file()]
        told = names if len(names) <= NAMED else [*names[:NAMED], f"{len(names) - NAMED:,} more files"]
        return ", ".join([*([f"the plugin {self.plugin}"] if self.plugin else []), *told])

    @property
    def runtime_env(self) -> dict[str, Any]:
        """As Ray is told."""
        files = {"working_dir": str(self.files)} if self.files else {}
        return files | ({"py_modules": [str(self.plugin.path)]} if self.plugin else {})


@contextmanager
def pack(
    words: Sequence[str],
    folder: Path,
    plugin: Path | None,
    limit_bytes: int,
    hidden: Mapping[str, str] | None = None,
) -> Generator[Luggage]:
    """The luggage of a command, in a folder that lasts as long as the context.

    Args:
        words: The command's.
        folder: Where the files lie that it names.
        plugin: The folder of the team's plugin.
        limit_bytes: What the cluster takes in at once.
        hidden: What no file may hold, by what it is.

    Raises:
        RequestError: A file lies elsewhere or holds a secret, something is too large, the plugin does not build.
    """
    named = _named(words, folder)
    with tempfile.TemporaryDirectory(prefix="genloom-") as packed:
        _require_no_secret(folder, named, hidden or {})
        files = _stage(folder, named, Path(packed, "files"), limit_bytes)
        made = wheel.build(plugin, Path(packed)) if plugin else None
        if made and hidden:
            _require_none_in_wheel(made, hidden)
        if made and (found := made.path.stat().st_size) > limit_bytes:
            raise RequestError(
                f"the plugin {made.package} is too large to travel: its wheel has {size(found)}, and "
                f"the cluster takes {size(limit_bytes)}; its largest files are "
                f"{wheel.largest(made.path)}: leave them out of the package "
                "([tool.setuptools.exclude-package-data]), and read them from the store"
            )
        summed = hashlib.sha256(made.digest.encode() if made else b"")
        for path in sorted(files.rglob("*")) if files else []:
            if path.is_file():
                summed.update(f"{path.relative_to(files or path)}\0".encode())
                summed.update(hashlib.sha256(path.read_bytes()).digest())
        yield Luggage(files, made, summed.hexdigest())


def _named(words: Sequence[str], folder: Path) -> list[Path]:
    """The files of the folder that a command names; what it imports may be a folder.

    Below this folder they are found after a word's `=` too, as in `--config=serve.yaml`.
    """
    after = [path for word in words if not (path := Path(word.partition("=")[2])).is_absolute()]
    found = [path for path in [*map(Path, words), *after] if _is(Path.is_file, folder / path)]
    if [*words[:2]] == ["data", "import"] and len(words) > SOURCE:
        source = Path(words[SOURCE])
        if _is(Path.is_dir, folder / source):
            _require_below(source)
            inside = [path.relative_to(folder / source) for path in (folder / source).rglob("*")]
            found += [source / path for path in inside if (folder / source / path).is_file()]
    for path in found:
        _require_below(path)
    return list(dict.fromkeys(found))


def _require_below(path: Path) -> None:
    if path.is_absolute() or ".." in path.parts:
        raise RequestError(
            f"{path} lies outside of the working folder, and the job could not find it there; give "
            f"it as a path below this folder; {THERE}"
        )


def _is(kind: Callable[[Path], bool], path: Path) -> bool:
    try:
        return kind(path)
    except (OSError, ValueError):  # a word too long to be a path, or with a NUL in it
        return False


def _require_no_secret(folder: Path, paths: Sequence[Path], hidden: Mapping[str, str]) -> None:
    for path in paths:
        with open(folder / path, "rb") as file:
            content = file.read(SEARCHED_BYTES + 1)
        head = content[:HEAD_BYTES]
        if head.startswith(PEM) and PRIVATE in head:
            raise RequestError(
                f"{path} holds a private key, and everyone who may see jobs could read what travels; put it "
                f"on the cluster's machine, for its user alone, and give the path that it has there: {THERE}"
            )
        if len(content) <= SEARCHED_BYTES:
            _search(str(path), content, hidden)


def _require_none_in_wheel(plugin: Wheel, hidden: Mapping[str, str]) -> None:
    with zipfile.ZipFile(plugin.path) as file:
        for entry in file.infolist():
            if entry.file_size <= SEARCHED_BYTES:
                _search(f"the plugin's {entry.filename}", file.read(entry), hidden)


def _search(where: str, content: bytes, hidden: Mapping[str, str]) -> None:
    for what, value in hidden.items():
        if value.encode() in content:
            raise RequestError(
                f"{where} holds {what}, and everyone who may see jobs could read what travels; {REMEDY}"
            )


def _stage(folder: Path, paths: Sequence[Path], to: Path, limit_bytes: int) -> Path | None:
    sizes = {path: (folder / path).stat().st_size for path in paths}
    if sum(sizes.values()) > limit_bytes:
        large = ", ".join(
            f"{path} ({size(sizes[path])})" for path in sorted(sizes, key=lambda p: -sizes[p])[:3]
        )
        raise RequestError(
            f"the command names files that are too large to travel: {large}, and the cluster takes "
            f"{size(limit_bytes)}; put them into the store (genloom data import), or give their s3:// "
            "address"
        )
    for path in paths:
        (to / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / path, to / path)
    return to if paths else None


def check_fits(plugin: Wheel, cluster: Cluster) -> None:
    """Raise RequestError where a plugin is for another Python than the cluster's, or for no Linux."""
    from packaging.tags import compatible_tags, cpython_tags
    from packaging.utils import parse_wheel_filename

    there = cluster.facts.python
    version = tuple(map(int, there.split(".")[:2]))
    interpreter = f"cp{version[0]}{version[1]}"
    tags = parse_wheel_filename(plugin.path.name)[3]
    platforms = sorted({tag.platform for tag in tags})
    if not any(platform == "any" or "linux" in platform for platform in platforms):
        raise RequestError(
            f"the plugin {plugin.package} was built here for {', '.join(platforms)}, and the machines of the "
            f"cluster {cluster.profile.name} run Linux; submit from Linux, or leave out what is compiled"
        )
    wanted = {(tag.interpreter, tag.abi) for tag in tags}
    fitting = [
        *cpython_tags(version, platforms=["any"]),
        *compatible_tags(version, interpreter, ["any"]),
    ]
    if not wanted & {(tag.interpreter, tag.abi) for tag in fitting}:
        built = ", ".join(sorted("-".join(tag) for tag in wanted))
        raise RequestError(
            f"the plugin {plugin.package} was built here for {built}, and the cluster "
            f"{cluster.profile.name} runs Python {there}; submit from Python {version[0]}.{version[1]}"
        )
