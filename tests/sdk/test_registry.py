"""Plugins, as pip would install them: folders with metadata on the path."""

import subprocess
import sys

import pytest

GOOD = """
import genloom
class Good(genloom.Generator):
    "A generator."
    contract = "{contract}"
    makes = genloom.Text
    width: int = 3
    def build(self, data): ...
    def prepare(self, row, data): ...
    def generate(self, model, prompts): ...
"""


def install(folder, package, name, code, version="1.2"):
    """A distribution with one module and one entry point."""
    module = package.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[genloom.generators]\n{name} = {module}:Good\n")


@pytest.fixture
def ask(tmp_path):
    """Run code in a fresh interpreter that has the plugins of `tmp_path`; returns what it printed."""

    def run(code):
        done = subprocess.run(
            [sys.executable, "-c", f"from genloom import registry\n{code}"],
            capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        )  # fmt: skip
        return (done.stdout + done.stderr.rpartition("genloom.errors.")[2]).strip()

    return run


def test_listing_imports_nothing(tmp_path, ask):
    install(tmp_path, "acme-bad", "bad", "raise SystemExit('imported')")
    assert ask("p = registry.available()['bad']; print(p.package, p.version)") == "acme-bad 1.2"


def test_what_is_installed_or_removed_meanwhile_is_seen(tmp_path, ask):
    install(tmp_path, "acme-one", "one", "")
    later = tmp_path / "later"
    later.mkdir()
    install(later, "acme-two", "two", "")
    said = ask(f"""
import pathlib, shutil
home, later = pathlib.Path({str(tmp_path)!r}), pathlib.Path({str(later)!r})
names = lambda: [name for name in registry.available() if name in ('one', 'two')]
print(names())
for path in later.iterdir():
    path.rename(home / path.name)
print(names())
shutil.rmtree(home / 'acme_one-1.2.dist-info')
print(names())
""")
    assert said.splitlines() == ["['one']", "['one', 'two']", "['two']"]


def test_a_plugin_loads_and_is_configured(tmp_path, ask):
    install(tmp_path, "acme-good", "good", GOOD.format(contract="1.0"))
    assert ask("print(registry.create('good', {'width': 5}))") == "width=5"


def test_a_broken_plugin_is_named_and_breaks_nothing_else(tmp_path, ask):
    install(tmp_path, "acme-bad", "bad", "import no_such_module")
    install(tmp_path, "acme-good", "good", GOOD.format(contract="1.0"))
    assert ask("print(registry.load('good').__name__)") == "Good"
    assert "'bad' of acme-bad 1.2 cannot be imported" in ask("registry.load('bad')")


def test_two_packages_that_claim_a_name_are_both_named(tmp_path, ask):
    install(tmp_path, "acme-one", "good", GOOD.format(contract="1.0"))
    install(tmp_path, "acme-two", "good", GOOD.format(contract="1.0"))
    answer = ask("registry.load('good')")
    assert "claimed by 2 packages" in answer
    assert "acme-one" in answer
    assert "acme-two" in answer


@pytest.mark.parametrize(("contract", "remedy"), [
    ("2.0", 'pip install "genloom>=2.0,<3"'),
    ("1.7", 'pip install "genloom>=1.7,<2"'),
    ("0.9", "pip install a acme-good that is written for contract 1"),
])  # fmt: skip
def test_another_contract_is_refused_with_what_to_install(tmp_path, ask, contract, remedy):
    install(tmp_path, "acme-good", "good", GOOD.format(contract=contract))
    answer = ask("registry.load('good')")
    assert f"written for contract {contract}, and this is 1.0" in answer
    assert remedy in answer


def test_a_plugin_must_state_its_contract(tmp_path, ask):
    install(tmp_path, "acme-good", "good", GOOD.replace('contract = "{contract}"', "pass"))
    assert 'states no contract version; write contract = "1.0" in Good' in ask("registry.load('good')")


def test_what_is_no_generator_is_refused(tmp_path, ask):
    install(tmp_path, "acme-good", "good", "Good = 3")
    assert "is 3, not a Generator or Predictor class" in ask("registry.load('good')")


def test_an_unknown_name_and_wrong_fields_are_told_with_the_nearest(tmp_path, ask):
    install(tmp_path, "acme-good", "good", GOOD.format(contract="1.0"))
    assert "did you mean 'good'?" in ask("registry.load('god')")
    answer = ask("registry.create('good', {'widht': 1, 'width': 'x'})")
    assert "has 2 errors" in answer
    assert "did you mean 'width'?" in answer
