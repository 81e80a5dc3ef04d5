"""What is started on a cluster by team code: a sweep from a notebook, and an endpoint from a script."""

import os
import sys

import pytest
from jupyter_client.manager import start_new_kernel
from laptop import FOREIGN

from genloom_platform.jobs.reach import free_port

SWEEP = {
    "run": {
        "generator": {"name": "acme-dots"}, "data": "digits", "steps": 4, "evaluate": False,
        "samples": {"every": 0},
    },
    "space": {"optimizer.lr": {"choice": [0.001, 0.01]}},
    "metric": "loss", "mode": "min", "search": "grid",
}  # fmt: skip
TIMEOUT_S = 150


class Notebook:
    """A kernel of Jupyter, and what its cells show."""

    def __init__(self, client):
        self._client = client

    def run(self, code):
        """Run a cell; the messages that it sends, as (kind, content)."""
        shown = []
        reply = self._client.execute_interactive(
            code,
            timeout=TIMEOUT_S,
            output_hook=lambda said: shown.append((said["msg_type"], said["content"])),
        )
        assert reply["content"]["status"] == "ok", reply["content"]
        return shown


@pytest.fixture(scope="module")
def notebook(laptop):
    inherited = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    environment = {**inherited, "HOME": str(laptop.home), "GENLOOM_CLUSTER": "lab"}
    manager, client = start_new_kernel(cwd=str(laptop.work), env=environment)
    yield Notebook(client)
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.mark.chaos  # it takes over a minute; `test_card.py` looks at the cards
def test_a_sweep_from_a_notebook_is_watched_on_a_card_and_gives_its_models(notebook, trained):
    shown = notebook.run(
        f"import genloom; lab = genloom.connect('lab'); sweep = lab.sweep({SWEEP!r}, name='rates').watch()"
    )
    cards = [content["data"]["text/html"] for kind, content in shown if "display_data" in kind]
    kinds = [kind for kind, _ in shown if "display_data" in kind]
    assert kinds[0] == "display_data"
    assert set(kinds[1:]) == {"update_display_data"}
    assert ">succeeded</b>" in cards[-1]
    assert "is registered: trial" in cards[-1]
    assert len({card.partition("</div>")[0] for card in cards}) > 1
    (result,) = [content for kind, content in notebook.run("sweep.models") if kind == "execute_result"]
    assert "full_name='acme-dots@" in result["data"]["text/plain"]
    (result,) = [
        content for kind, content in notebook.run("lab.find('rates')") if kind == "execute_result"
    ]
    assert "<b>rates</b> on lab" in result["data"]["text/html"]
    assert result["data"]["text/plain"] == "<sweep rates on lab>"


def test_an_endpoint_from_a_script_is_waited_for_asked_and_stopped(laptop, trained):
    port = free_port()
    profile = laptop.profile.read_text()
    laptop.profile.write_text(f"{profile}endpoint: http://127.0.0.1:{port}\n")
    code = f"""
import genloom
endpoint = genloom.connect("lab").serve("acme-dots@1", name="shop", port={port})
with endpoint.wait(timeout_s=100).connect() as there:
    print(len(there.models["acme-dots"].generate(seed=7)))
print(endpoint.stop().word)
"""
    try:
        status, output = laptop("-c", code, program=sys.executable, timeout_s=TIMEOUT_S)
    finally:
        laptop.profile.write_text(profile)
    assert status == 0, output
    assert output.split() == ["1", "stopped"]
