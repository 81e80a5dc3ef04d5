"""The rooms and the arrows between them."""

import ast
import subprocess
import sys

import pytest

import genloom


def imports_of(folder):
    """(file, imported top-level module) for every import below a folder, nested ones too."""
    found = []
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            found += [(file, name.partition(".")[0]) for name in names]
    return found


def test_platform_is_a_folder_and_no_package(root):
    assert not (root / "platform" / "__init__.py").exists()


def test_every_folder_of_a_package_is_packaged(root):
    folders = {
        file.parent
        for top in ("sdk", "platform", "plugins")
        for file in (root / top).rglob("src/*/**/*.py")
    }
    ours = [folder for folder in folders if "templates" not in folder.parts]
    assert [folder for folder in ours if not (folder / "__init__.py").exists()] == []


def test_plugins_import_the_sdk_and_never_the_platform(root):
    engines = {"genloom_platform", "ray", "deepspeed", "mlflow"}
    assert [(f, name) for f, name in imports_of(root / "plugins") if name in engines] == []


def test_the_sdk_imports_neither_platform_nor_plugins(root):
    beyond = {"genloom_platform", "genloom_image", "genloom_text", "ray", "deepspeed", "mlflow"}
    assert [(f, name) for f, name in imports_of(root / "sdk" / "src") if name in beyond] == []


def test_the_platform_imports_no_plugin_by_name(root):
    plugins = {path.name for path in (root / "plugins").glob("*/src/*")}
    assert {"genloom_image", "genloom_text"} <= plugins
    assert [(f, name) for f, name in imports_of(root / "platform" / "src") if name in plugins] == []


@pytest.mark.parametrize(
    "code",
    [
        "import genloom",
        "import genloom, genloom.testing, genloom.registry; genloom.registry.available()",
        "from genloom_platform.models import registry; from genloom_platform.train import runs",
        "from genloom_platform.cli.app import app; from typer.main import get_command; get_command(app)",
    ],
)
def test_importing_loads_neither_torch_nor_ray(code):
    check = (
        "import sys; print([m for m in ('torch', 'ray', 'deepspeed', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", f"{code}; {check}"], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_help_loads_neither_torch_nor_ray():
    command = [sys.executable, "-X", "importtime", "-m", "genloom_platform.cli", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "Commands" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"torch", "ray", "deepspeed", "mlflow", "pyarrow"}


def test_public_names_exist_and_are_sorted():
    assert all(hasattr(genloom, name) for name in genloom.__all__)
    public = {name for name in vars(genloom) if not name.startswith("_")}
    modules = {name for name in public if type(getattr(genloom, name)).__name__ == "module"}
    assert public - modules == set(genloom.__all__)


def test_the_loop_is_short_and_knows_nothing_of_the_cluster(root):
    loop = root / "platform/src/genloom_platform/train/loop.py"
    assert len(loop.read_text().splitlines()) < 100
    names = {name for file, name in imports_of(loop.parent) if file == loop}
    assert not names & {"ray", "mlflow", "pyarrow", "boto3"}
