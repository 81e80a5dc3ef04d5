"""The team's plugin as a wheel: found, built, named by its digest, without anything to fetch."""

import subprocess
import sys
import zipfile

import jobs_plugin
import pytest

from genloom.errors import RequestError
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
    assert changed.path.name != built.path.name


def test_building_leaves_nothing_in_the_teams_folder(folder, built):
    left = {path.name for path in folder.rglob("*")}
    assert left == {"pyproject.toml", "src", "acme_dots", "__init__.py"}


def test_it_is_installed_without_an_index_and_offers_its_generator(built, tmp_path):
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-index",
        "--quiet",
        "--disable-pip-version-check",
    ]
    subprocess.run([*pip, f"--target={tmp_path}", str(built.path)], check=True)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from genloom import registry; "
        "print(registry.find('acme-dots').package, registry.find('acme-dots').version)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["acme-dots", "0.4.2"], done.stderr


def test_the_wheels_own_record_agrees_with_its_files(built):
    with zipfile.ZipFile(built.path) as file:
        assert file.testzip() is None
        (metadata,) = [name for name in file.namelist() if name.endswith("METADATA")]
        text = file.read(metadata).decode()
    assert "Requires-Dist" not in text
    assert "Requires-Python: >=3.11" in text


def test_a_plugin_that_does_not_build_says_why(folder, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    text = (folder / "pyproject.toml").read_text()
    (broken / "pyproject.toml").write_text(text.replace('version = "0.4.2"', 'version = "one"'))
    with pytest.raises(RequestError, match=r"does not build: [\s\S]*one[\s\S]*pip wheel --no-deps"):
        wheel.build(broken, tmp_path)
    (broken / "pyproject.toml").write_text("[project\n")
    with pytest.raises(RequestError, match="not valid TOML"):
        wheel.find(broken)
