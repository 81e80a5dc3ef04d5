"""`genloom plugins new`: a pip package from which an author can start, and which already works.

The templates are working classes of the name `MyGenerator`; making a package is writing the author's
name over it.
"""

import keyword
import re
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from genloom import registry
from genloom.errors import NameConflict, RequestError, UnknownName

KINDS = {
    "image": (
        "A generator of small pictures",
        "It learns from a dataset with pictures, such as `digits`, and from their classes if it has them.",
    ),
    "text": (
        "A generator of text",
        "It learns from a dataset with texts.",
    ),
    "audio": (
        "A generator of short sounds",
        "It learns from a dataset with sounds.",
    ),
    "predictor": (
        "A classifier of small pictures",
        "It learns from a dataset with pictures and their classes, such as `digits`.",
    ),
}
"""What each kind makes, and the dataset that it needs."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def new(name: str, kind: str, folder: str | Path) -> Path:
    """Make a package with one generator or predictor that trains as it is.

    Args:
        name: What the generator will be called, as in "tiny-faces"; the package is then `tiny_faces`
            and the class `TinyFaces`.
        kind: One of `KINDS`.
        folder: Where the package goes; it is made, or is empty.

    Returns:
        The folder.

    Raises:
        UnknownName: There is no such kind; the nearest is named.
        NameConflict: An installed plugin or package has the name.
        RequestError: The name is none, or there is something in the folder.
    """
    if kind not in KINDS:
        raise UnknownName("kind of plugin", kind, KINDS)
    _check_name(name)
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise RequestError(f"{folder} exists and is not empty; give a new folder")
    for path, text in _package(name, kind).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return folder


def _check_name(name: str) -> None:
    package = name.replace("-", "_")
    if not _NAME.fullmatch(name) or keyword.iskeyword(package):
        raise RequestError(
            f"{name!r} is no name for a generator: lower-case letters and digits, in parts joined by a "
            f"hyphen, starting with a letter and no keyword of Python, as in tiny-faces"
        )
    taken = registry.available().get(name)
    if taken:
        raise NameConflict(
            f"the name {name!r} is taken by {taken.package} {taken.version}; choose another"
        )
    if package in sys.stdlib_module_names or find_spec(package):
        raise NameConflict(f"Python has a module {package!r} already; choose another name")


def _package(name: str, kind: str) -> dict[str, str]:
    """Every file's path and text."""
    package = name.replace("-", "_")
    words = {
        "my-generator": name,
        "my_generator": package,
        "MyGenerator": "".join(part.capitalize() for part in name.split("-")),
        "WHAT IT IS": KINDS[kind][0],
        "WHAT DATASET": KINDS[kind][1],
    }
    templates = {
        "pyproject.toml": "package/pyproject.toml",
        "README.md": "package/README.md",
        f"src/{package}/__init__.py": "package/init.txt",
        f"src/{package}/model.py": f"{kind}.py",
        f"tests/test_{package}.py": "package/test.txt",
    }
    return {path: _filled(template, words) for path, template in templates.items()}


def _filled(template: str, words: dict[str, str]) -> str:
    text = files("genloom_platform").joinpath("plugins", "templates", template).read_text("utf-8")
    pattern = "|".join(map(re.escape, words))
    return re.sub(pattern, lambda found: words[found.group()], text)
