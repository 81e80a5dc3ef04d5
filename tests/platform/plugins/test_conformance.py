"""What the conformance kit makes of what the workers noted."""

from pathlib import Path

import pytest

from genloom.testing import Finding
from genloom_platform.plugins.conformance import judge
from genloom_platform.plugins.trial import STAGES, STOP, WORLDS, Stage, Subject

LOSSES = (1.0, 0.8, 0.7, 0.65)
LOG = Path("kit.log")


def stages(**changes: dict[str, object]) -> list[Stage]:
    """Six good trainings; `w2s3={…}` changes the one of two workers at ZeRO-3."""
    found: list[Stage] = []
    for world in WORLDS:
        for stage in STAGES:
            steps = tuple({"loss": value} for value in LOSSES)
            good = Stage(world=world, stage=stage, losses=steps, resumed=steps[STOP:])
            found.append(good.model_copy(update=changes.get(f"w{world}s{stage}", {})))
    return found


def told(found: list[Stage], incomparable: str = "", ending: str = "") -> dict[str, Finding]:
    return {finding.check: finding for finding in judge(found, incomparable, ending, LOG)}


def off(factor: float) -> dict[str, object]:
    """All losses, resumed ones too, changed by a factor."""
    steps = tuple({"loss": value * factor} for value in LOSSES)
    return {"losses": steps, "resumed": steps[STOP:]}


def test_equal_trainings_pass_every_rule() -> None:
    assert {finding.outcome for finding in told(stages()).values()} == {"passed"}


def test_rounding_passes_and_more_than_it_does_not() -> None:
    assert told(stages(w2s3=off(1 + 5e-5)))["ZeRO stages agree"].outcome == "passed"
    finding = told(stages(w2s3=off(1 + 2e-4)))["ZeRO stages agree"]
    assert finding.outcome == "failed"
    assert "2 workers at ZeRO-3" in finding.seen
    assert "change no parameter in a loss" in finding.remedy


def test_one_worker_and_two_are_compared_only_where_they_can_be() -> None:
    apart = stages(w2s1=off(1.1), w2s2=off(1.1), w2s3=off(1.1))
    assert told(apart)["workers agree"].outcome == "failed"
    finding = told(apart, incomparable="loss draws random numbers")["workers agree"]
    assert (finding.outcome, finding.seen) == ("not run", "loss draws random numbers")
    assert told(apart)["ZeRO stages agree"].outcome == "passed"


def test_a_resumed_loss_must_be_the_same_to_the_last_bit() -> None:
    resumed = ({"loss": LOSSES[2]}, {"loss": LOSSES[3] + 1e-12})
    finding = told(stages(w1s2={"resumed": resumed}))["resumes exactly"]
    assert finding.outcome == "failed"
    assert "1 worker at ZeRO-2" in finding.seen


def test_buffers_that_differ_are_named() -> None:
    finding = told(stages(w2s1={"unequal": ("codebook",)}))["buffers agree"]
    assert finding.outcome == "failed"
    assert "codebook" in finding.seen


@pytest.mark.parametrize(
    ("found", "ending", "seen"),
    [
        (
            stages(w1s3={"error": "ValueError: no (in loss, line 3)"}),
            "",
            "1 worker at ZeRO-3: ValueError: no",
        ),
        (stages(w2s2=off(float("nan"))), "", "'loss' is nan at step 1"),
        (stages()[:4], "training took more than 600 s", "more than 600 s"),
        (stages()[:5], "", "a worker ended early"),
    ],
)
def test_training_that_failed_is_told_and_the_rest_was_not_run(
    found: list[Stage], ending: str, seen: str
) -> None:
    findings = told(found, ending=ending)
    training = findings.pop("training")
    assert training.outcome == "failed"
    assert seen in training.seen
    assert {finding.outcome for finding in findings.values()} == {"not run"}


def test_a_class_is_found_by_its_file_where_its_module_has_no_name_for_others(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import genloom\n"
        "class Mine(genloom.Generator):\n"
        "    contract = '1.0'\n"
        "    size: int = 1\n"
        "    def build(self, data): ...\n"
        "    def prepare(self, row, data): ...\n"
        "    def generate(self, model, prompts): ...\n"
    )
    for module in ("__main__", "some.tests.mine"):
        subject = Subject(module=module, file=str(file), qualname="Mine", config={"size": 4})
        assert subject.load().model_dump() == {"size": 4}
