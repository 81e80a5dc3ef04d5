"""Jobs on a real head, sent as from a laptop: with a home, a folder, a token and a profile of its own."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jobs_plugin
import psutil
import pytest

from genloom_platform.store import Store
from genloom_platform.train import checkpoint


def test_a_plugin_that_only_the_laptop_has_trains_and_the_run_records_its_wheel(trained):
    output, run = trained
    assert re.match(
        r"job dots on lab, with the plugin acme-dots 0.4.2 sha256:\w{12}, run.yaml; ", output
    )
    assert "model acme-dots@1 is registered" in output
    assert (run["package"], run["package_version"], run["job"]) == ("acme-dots", "0.4.2", "dots")
    assert re.fullmatch(r"[0-9a-f]{64}", run["package_digest"])


def test_the_same_id_is_the_same_job_and_another_command_is_refused(laptop, trained):
    status, output = laptop("submit", "--id", "dots", "--follow", "--", "train", "run.yaml")
    assert (status, output.count("is registered")) == (0, 1)  # its log, again
    assert laptop("jobs", "list")[1].count("train run.yaml") == 1
    status, output = laptop("submit", "--id", "dots", "--", "train", "run.yaml", "steps=5")
    assert status == 2
    assert "another job's" in output
    module = laptop.work / "src" / "acme_dots" / "__init__.py"
    module.write_text(module.read_text() + "\nANSWER = 42\n")
    status, output = laptop("submit", "--id", "dots", "--", "train", "run.yaml")
    assert (status, "another plugin" in output) == (2, True)


def test_team_code_has_a_handle_of_the_run(laptop, trained):
    code = (
        "from genloom_platform.jobs.remote import Remote; run = Remote('lab').run('dots'); "
        "print(run.wait().state, run.model, 'loss' in run.metrics, 'is registered' in ''.join(run.logs()))"
    )
    status, output = laptop("-c", code, program=sys.executable)
    assert status == 0, output
    assert output.split() == ["succeeded", "acme-dots@1", "True", "True"]
    assert "ask-runs" not in laptop("jobs", "list")[1]


@pytest.mark.chaos  # with a wheel see `tests/hosts`
def test_rays_own_command_sends_a_training_with_its_plugin(laptop, trained, tmp_path):
    folder = jobs_plugin.write(tmp_path / "plugin")
    # As `pip install -e .` leaves it beside the sources: it tells of the generator.
    made = [sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", "egg_info"]
    subprocess.run(made, cwd=folder, check=True)
    words = ("train", "acme-dots", "steps=2", "evaluate=false", "--data", "digits", "--name", "by-ray")
    sent = {name: text for name, text in laptop.on_the_head.items() if name.startswith("RAY_AUTH")}
    status, output = laptop(
        "job", "submit", "--working-dir", folder / "src", "--", "genloom", *words, program="ray",
        RAY_API_SERVER_ADDRESS=f"http://127.0.0.1:{laptop.ports[1]}", **sent,
    )  # fmt: skip
    assert status == 0, output
    assert re.search(r"model acme-dots@\d+ is registered", output)
    run = json.loads(Path(laptop.store[7:], "runs/by-ray/run.json").read_text())
    assert (run["package"], run["package_version"], run["job"]) == ("acme-dots", "0.4.2", None)


def test_a_job_ends_as_its_command_ends(laptop):
    status, output = laptop(
        "submit", "--id", "wrong", "--follow", "--", "train", "acme-dot", "--data", "digits"
    )
    assert status == 2
    assert "did you mean 'acme-dots'?" in output
    assert "failed with status 2" in laptop("jobs", "status", "wrong")[1]


def supervisor(words):
    """The process of Ray that holds the job whose command has these words."""
    for process in psutil.process_iter(["cmdline"]):
        if words in " ".join(process.info["cmdline"] or ()):
            parent = process.parent()
            if parent and "JobSupervisor" in " ".join(parent.cmdline()):
                return parent
    raise AssertionError(f"no job has {words}")


def until(condition, what, timeout_s=60):
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.3)
    return found


def _told(laptop, word):
    told = laptop("jobs", "status", "long")[1]
    return told if word in told else ""


@pytest.fixture(scope="module")
def long(laptop, trained):
    """A job without an end whose follower goes, whose machine is lost, and that is sent again."""
    words = "train run.yaml steps=1000000 checkpoint.every=20"
    command = ("submit", "--id", "long", "--", *words.split())
    status = Path(laptop.store[7:], "runs/long/status.json")
    follower = laptop.popen(*command[:3], "--follow", *command[3:])
    store = Store(laptop.store)
    until(lambda: checkpoint.committed(store, "long"), "nothing was saved", 120)
    follower.send_signal(signal.SIGINT)
    said, _ = follower.communicate(timeout=120)
    seen = [f"{follower.returncode} {said}", laptop("jobs", "status", "long")[1]]
    supervisor(command[-2]).kill()
    seen.append(until(lambda: _told(laptop, "lost"), "it does not count as lost"))
    before = max(checkpoint.committed(store, "long"))
    sent = laptop(*command)
    until(lambda: max(checkpoint.committed(store, "long")) > before, "it did not go on", 120)
    assert json.loads(status.read_text())["step"] >= before  # where it went on from
    seen.append(laptop("jobs", "status", "long")[1])
    stopped = laptop("jobs", "stop", "long")
    return seen, sent, stopped, command


def test_a_laptop_that_goes_changes_nothing(long):
    seen, *_ = long
    assert seen[0].startswith("130 ")
    assert seen[0].endswith("the job long goes on; genloom jobs stop long ends it\n")
    assert "Traceback" not in seen[0]
    assert "running" in seen[1]


def test_a_job_that_was_lost_is_started_again_and_goes_on_with_its_run(laptop, long):
    seen, sent, *_ = long
    assert "the same id starts it again" in seen[2]
    assert sent[0] == 0, sent[1]
    assert "running" in seen[3]
    records = Path(laptop.store[7:], "runs").glob("*/run.json")
    runs = [json.loads(path.read_text()) for path in records]
    assert [run["name"] for run in runs if run["job"] == "long"] == ["long"]
    assert laptop("jobs", "list")[1].count("steps=1000000") == 1


def test_a_job_that_is_stopped_saves_first_and_cannot_be_stopped_twice(laptop, long):
    *_, (status, output), command = long
    assert (status, "was stopped" in output) == (0, True), output
    run = json.loads(Path(laptop.store[7:], "runs/long/status.json").read_text())
    saved = Path(laptop.store[7:], "runs/long/checkpoints")
    assert run["state"] == "stopped"
    assert any(f"{run['step']}" in path.name for path in saved.iterdir())
    again = laptop("jobs", "stop", "long")
    assert again[0] == 2
    assert "has ended already: it was stopped" in again[1]
    assert laptop(*command[:3], "--follow", *command[3:])[0] == 130


def test_the_head_is_closed_and_says_what_it_has(laptop):
    status, output = laptop("cluster", "status", "lab")
    assert status == 0, output
    assert "Ray 2.60.0" in output
    assert "4 CPUs" in output
    assert laptop.token.stat().st_mode & 0o777 == 0o600
    token = laptop.token.read_text()
    commands = subprocess.run(["ps", "axww", "-o", "command"], capture_output=True, text=True).stdout
    assert token not in commands
    listed = laptop("jobs", "list")[1]
    assert token not in listed


def test_doctor_looks_at_the_machines_of_a_cluster(laptop, trained):
    path = laptop.work / "clusters" / "lab.yaml"
    (laptop.work / "clusters" / "needy.yaml").write_text(f"{path.read_text()}secrets: [NOT_THERE]\n")
    status, output = laptop("doctor", "--cluster", "needy", "--json")
    report = json.loads(output.splitlines()[-1])
    found = {(each["check"], each["where"]): each for each in report["findings"]}
    (head,) = (where for check, where in found if check == "store")
    assert re.fullmatch(r"[\d.]+ \(head\)", head)
    wrong = {check for (check, _), each in found.items() if not each["well"]}
    # Those three are this machine's, on which the tests have another cluster too.
    assert wrong - {"disk", "shared memory", "ports"} == {"secrets"}, found
    ports = [each["seen"] for each in report["findings"] if each["check"] == "ports"]
    assert not [seen for seen in ports for port in laptop.ports if f"port {port} " in seen]
    assert status == 1
    for check in (
        "token",
        "store",
        "tracking",
        "GPUs",
        "shared memory",
        "disk",
        "plugins",
        "compiler",
        "ports",
    ):
        assert (check, head) in found
    for check in ("token", "reached", "versions", "clock"):
        assert found[check, "this machine"]["well"], found[check, "this machine"]
    assert "is read and written" in found["store", head]["seen"]
    assert not list(Path(laptop.store[7:], ".doctor").glob("*"))
    assert "doctor" not in laptop("jobs", "list")[1]


def test_a_wrong_token_a_missing_one_and_one_that_others_can_read_are_told_apart(laptop):
    profile = laptop.work / "clusters" / "lab.yaml"
    other = laptop.work / "clusters" / "other.yaml"
    for mode, content, words in (
        (0o600, "0" * 64, "refuses the token"), (0o644, "0" * 64, "chmod 600"), (0o600, None, "there is no"),
    ):  # fmt: skip
        path = laptop.home / "token"
        path.unlink(missing_ok=True)
        if content:
            path.write_text(content)
            path.chmod(mode)
        other.write_text(f"{profile.read_text()}token: {{file: {path}}}\n")
        status, output = laptop("jobs", "list", "--cluster", "other")
        assert status, output
        assert words in output
    other.unlink()


def test_a_job_that_there_is_not_is_told_with_those_that_there_are(laptop, trained):
    status, output = laptop("jobs", "logs", "dotz")
    assert status == 2
    assert "did you mean 'dots'?" in output
