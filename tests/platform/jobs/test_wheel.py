"""The team's plugin as a wheel: found, built, named by its digest, without anything to fetch."""

import shutil
import subprocess
import sys
import zipfile

import jobs_plugin
import pytest

from genloom.errors import InvalidConfig, RequestError
from genloom_platform.jobs import wheel


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return jobs_plugin.write(tmp_path_factory.mktemp("plugin"))


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory):
    return wheel.build(folder, tmp_path_factory.mktemp("out"))


def test_a_folder_is_a_plugins_where_its_project_offers_something(folder, tmp_path):
    assert wheel.find(folder) == folder
    assert wheel.find(tmp_path) is None
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert wheel.find(tmp_path) is None
    with pytest.raises(RequestError, match="offers nothing to Genloom"):
        wheel.require(tmp_path)
    with pytest.raises(RequestError, match=r"no pyproject.toml"):
        wheel.require(tmp_path / "nowhere")


def test_a_wheel_is_told_apart_by_its_content(folder, built, tmp_path):
    again = wheel.build(folder, tmp_path)
    assert (again.path.name, again.digest) == (built.path.name, built.digest)
    module = folder / "src" / "acme_dots" / "__init__.py"
    before = module.read_text()
    module.write_text(before + "\nANSWER = 42\n")
    changed = wheel.build(folder, tmp_path)
    module.write_text(before)
    assert (built.package, built.version) == ("acme-dots", "0.4.2")
    assert changed.digest != built.digest


def test_building_leaves_nothing_in_the_teams_folder(folder, built):
    left = {path.name for path in folder.rglob("*")}
    assert left == {"pyproject.toml", "src", "acme_dots", "__init__.py"}


def test_unpacked_it_offers_its_generator(built, tmp_path):
    with zipfile.ZipFile(built.path) as file:
        file.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from genloom import registry; "
        "print(registry.find('acme-dots').package, registry.find('acme-dots').version)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["acme-dots", "0.4.2"], done.stderr


def test_a_wheel_that_only_an_installer_puts_together_is_refused(folder, tmp_path):
    parts = tmp_path / "parts"
    shutil.copytree(folder, parts)
    text = (parts / "pyproject.toml").read_text()
    (parts / "pyproject.toml").write_text(
        text.replace(
            'build-backend = "setuptools.build_meta"', 'build-backend = "apart"\nbackend-path = ["."]'
        )
    )
    (parts / "apart.py").write_text(
        "import zipfile\n"
        "def build_wheel(out, settings=None, metadata=None):\n"
        "    with zipfile.ZipFile(f'{out}/acme_dots-1-py3-none-any.whl', 'w') as file:\n"
        "        file.writestr('acme_dots-1.data/purelib/acme_dots.py', '')\n"
    )
    with pytest.raises(
        RequestError, match=r"only an installer .* as acme_dots-1.data/purelib/acme_dots.py"
    ):
        wheel.build(parts, tmp_path)


def test_a_plugin_that_does_not_build_says_why(folder, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    text = (folder / "pyproject.toml").read_text()
    (broken / "pyproject.toml").write_text(text.replace('version = "0.4.2"', 'version = "one"'))
    with pytest.raises(
        RequestError, match=r"does not build: [\s\S]*version` must be pep440; pip wheel --no-deps"
    ):
        wheel.build(broken, tmp_path)
    (broken / "pyproject.toml").write_text("[project\n")
    with pytest.raises(RequestError, match="not valid TOML"):
        wheel.find(broken)


@pytest.mark.parametrize(("text", "message"), [
    ("project = 'x'", r"project = 'x': must be a table; give \[project\]"),
    ("[project]\nentry-points = ['a']", r"project.entry-points = \['a'\]: must be a table"),
])  # fmt: skip
def test_a_project_that_is_no_table_is_told(tmp_path, text, message):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(InvalidConfig, match=message):
        wheel.find(tmp_path)


@pytest.mark.parametrize(("system", "message"), [
    ("build-system = 'x'", r"build-system = 'x': must be a table"),
    ("[build-system]\nrequires = ['not a req !!']", r"build-system.requires = \['not a req !!'\]: must list"),
    ("[build-system]\nrequires = 'setuptools'", r"build-system.requires = 'setuptools': .*it is no list"),
])  # fmt: skip
def test_a_build_system_that_is_none_is_told(tmp_path, system, message):
    (tmp_path / "pyproject.toml").write_text(system)
    with pytest.raises(InvalidConfig, match=message):
        wheel.build(tmp_path, tmp_path)
