"""What is made of what machines see: one row for all that see the same, and which versions are wrong where."""

import json

from genloom_platform.doctor import versions
from genloom_platform.doctor.clocks import skew
from genloom_platform.doctor.findings import Finding, Report, Seen, report, together

SAME = {"python": "3.11.9", "ray": "2.60.0", "torch": "2.13.0+cpu", "acme-dots": "0.4.2"}


def seen(where, gpu_versions=None, **changed):
    found = {name: number for name, number in {**SAME, **changed}.items() if number}
    return Seen(where=where, findings=(), versions=found, gpu_versions=gpu_versions or {})


def wrong(findings):
    return {each.where: (each.seen, each.remedy) for each in findings if not each.well}


def test_machines_that_run_the_same_are_one_finding():
    (found,) = versions.compare([seen("a (head)"), seen("b"), seen("c", torch="2.13.0+cu130")])
    assert (found.well, found.where) == (True, "a (head), b, c")
    assert "torch 2.13.0+cpu" in found.seen


def test_a_machine_with_another_version_is_named_with_what_to_install():
    others = [seen("b", torch="2.12.1"), seen("c", **{"acme-dots": None, "acme-new": "1.0"}), seen("d")]
    found = versions.compare([seen("a (head)"), *others])
    assert found[0].where == "a (head), d"
    told = wrong(found)
    assert told.keys() == {"b", "c"}
    assert told["b"] == (
        "torch 2.12.1, and a (head) has 2.13.0+cpu", "pip install 'torch==2.13.0' on b",
    )  # fmt: skip
    assert told["c"][0] == (
        "acme-dots none, and a (head) has 0.4.2; acme-new 1.0, and a (head) has none"
    )
    assert "pip install 'acme-dots==0.4.2' on c" in told["c"][1]
    assert "pip uninstall acme-new on c" in told["c"][1]


def test_another_python_cannot_be_installed_by_pip():
    told = wrong(versions.compare([seen("a (head)"), seen("b", python="3.12.1")]))
    assert told["b"][1] == "give b Python 3.11.9"


def test_machines_with_gpus_must_have_one_nccl():
    first = {"CUDA": "13.0", "NCCL": "2.28.3"}
    found = versions.compare(
        [seen("a (head)"), seen("b", first), seen("c", {**first, "NCCL": "2.27.5"}), seen("d", first)]
    )
    told = wrong(found)
    assert told.keys() == {"c"}
    assert told["c"][0] == "NCCL 2.27.5, and b has 2.28.3"
    assert "the same build of torch" in told["c"][1]


def test_a_laptop_needs_no_engine_and_no_patch_of_python_but_the_same_ray():
    laptop = Seen(where="this machine", findings=(), versions={"python": "3.11.2", "ray": "2.60.0"})
    assert versions.compare_laptop(seen("a (head)"), laptop).well
    other = laptop.model_copy(update={"versions": {"python": "3.12.1", "ray": "2.59.0"}})
    found = versions.compare_laptop(seen("a (head)"), other)
    assert not found.well
    assert "python 3.12, and a (head) has 3.11" in found.seen
    assert "pip install 'ray==2.60.0' on this machine" in found.remedy


def test_what_several_machines_see_alike_is_one_row():
    rows = [("a", "g++"), ("b", "g++"), ("c", "none")]
    found = together([Finding(check="compiler", where=w, well=True, seen=s) for w, s in rows])
    assert [(each.where, each.seen) for each in found] == [("a, b", "g++"), ("c", "none")]


def test_a_report_says_whether_all_is_well_and_survives_json():
    found = [
        Finding(check="disk", where="a", well=True, seen="room"),
        Finding(check="store", where="a", well=False, seen="away", remedy="bring it"),
        Finding(check="disk", where="b", well=True, seen="room"),
    ]
    made = report(found, [seen("a")])
    assert not made.well
    assert [each.check for each in made.findings] == ["disk", "disk", "store"]
    assert Report.model_validate(json.loads(made.model_dump_json())) == made
    assert report(found[:1], []).well


def test_a_clock_is_wrong_only_beyond_what_is_not_known_of_it():
    assert skew("the head", 4.9, 0.0).well
    assert skew("the head", -5.4, 0.5).well
    late = skew("the head", -93.2, 0.01)
    assert (late.well, late.seen) == (False, "93.2 s behind the head")
    assert "chronyc" in late.remedy
