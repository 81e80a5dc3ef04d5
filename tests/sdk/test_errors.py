import inspect
import pickle

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator

from genloom import errors
from genloom.errors import EndpointError, InvalidConfig, Problem, UnknownName
from genloom.problems import problems_of

TREE = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, Exception)]


def test_the_docstring_draws_the_whole_tree():
    assert all(each.__name__ in errors.__doc__ for each in TREE)


@pytest.mark.parametrize("error", [
    UnknownName("dataset", "digit", ["digits", "cifar10"]),
    EndpointError("gone", 503),
    InvalidConfig("the run", [Problem("steps", "0", "must be positive", "give 1 or more")]),
    *(each("what happened") for each in TREE if each not in (UnknownName, EndpointError, InvalidConfig)),
])  # fmt: skip
def test_errors_survive_pickling(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.__dict__ == error.__dict__


def test_an_unknown_name_names_the_nearest():
    assert "did you mean 'digits'?" in str(UnknownName("dataset", "digit", ["digits", "cifar10"]))
    assert "there are a, b" in str(UnknownName("dataset", "zzz", ["b", "a"]))
    assert "there is none yet" in str(UnknownName("dataset", "zzz", []))


def test_an_invalid_config_lists_every_problem_with_value_rule_and_remedy():
    problems = [Problem("a", "1", "must be 2", "give 2"), Problem("b", "", "is missing", "add b")]
    assert str(InvalidConfig("the run", problems)).splitlines() == [
        "the run has 2 errors:",
        "  a = 1: must be 2; give 2",
        "  b: is missing; add b",
    ]


class Bounded(BaseModel):
    few: list[int] = Field(default=[1], min_length=1, max_length=2)
    told: int = 0

    @field_validator("told")
    @classmethod
    def _told(cls, told):
        if told == 1:
            raise ValueError("cannot be 1; give 2, for that is possible")
        if told == 3:
            raise ValueError("cannot be 3")
        return told


@pytest.mark.parametrize(("values", "message"), [
    ({"few": []}, "few = []: must have at least 1 entry, and has 0; add 1 or more"),
    ({"few": [1, 2, 3, 4]}, "few = [1, 2, 3, 4]: must have at most 2 entries, and has 4; leave 2 out"),
    ({"told": 1}, "told = 1: cannot be 1; give 2, for that is possible"),
    ({"told": 3}, "told = 3: cannot be 3; change it"),
])  # fmt: skip
def test_a_fault_of_a_setting_is_told_in_plain_words_with_one_remedy(values, message):
    with pytest.raises(ValidationError) as error:
        Bounded(**values)
    assert list(map(str, problems_of(error.value, Bounded))) == [message]
