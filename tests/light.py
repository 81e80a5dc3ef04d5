"""What `pip install genloom[client]` gives: an environment of that alone, made of what is installed here."""

import re
import venv
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

import genloom
import genloom_platform

WANTED = ("genloom[client]", "pip", "setuptools")
"""The last two build the team's plugin."""
PROGRAMS = {"genloom": "genloom_platform.cli.app", "ray": "ray.scripts.scripts"}


def make(folder):
    """Make the environment; returns the folder of its programs."""
    venv.EnvBuilder(symlinks=True).create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    for source in {path for name in _closure(WANTED) for path in _top_level(name)}:
        (site / source.name).symlink_to(source)
    # Where the packages are installed as links to this tree, that is all of them but their code.
    code = {str(Path(package.__file__).parents[1]) for package in (genloom, genloom_platform)}
    (site / "workspace.pth").write_text("\n".join(sorted(code)))
    for program, module in PROGRAMS.items():
        script = folder / "bin" / program
        script.write_text(f"#!{folder}/bin/python\nfrom {module} import main\nmain()\n")
        script.chmod(0o755)
    return folder / "bin"


def _closure(wanted):
    """The names of all distributions that some requirements bring along."""
    found, waiting = {}, [Requirement(each) for each in wanted]
    while waiting:
        asked = waiting.pop()
        name, extras = re.sub(r"[-_.]+", "-", asked.name).lower(), {"", *asked.extras}
        new = extras - found.get(name, set())
        found.setdefault(name, set()).update(extras)
        for line in distribution(name).requires or () if new else ():
            required = Requirement(line)
            if required.marker is None or any(
                required.marker.evaluate({"extra": each}) for each in new
            ):
                waiting.append(required)
    return set(found)


def _top_level(name):
    """The files and folders of a distribution that lie in `site-packages` itself."""
    found = distribution(name)
    names = {file.parts[0] for file in found.files} - {"..", "__pycache__"}
    paths = [Path(found.locate_file(each)) for each in names if not each.startswith("__editable__")]
    return [path for path in paths if path.exists()]
