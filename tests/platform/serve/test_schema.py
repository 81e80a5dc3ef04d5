"""Requests that schemathesis makes up from the OpenAPI page: none fails, and no answer is undocumented."""

import pytest
import schemathesis
import serve_toys as toys
from hypothesis import HealthCheck, given, settings
from local_endpoint import LocalBackend, serving
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from genloom_platform.serve.app import create_app
from genloom_platform.serve.jobs.desk import Desk
from genloom_platform.serve.model import served
from genloom_platform.store import Store

CASES = 15
"""Requests of each kind to each path."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A server of models none of which fails on a prompt that its schema allows; it takes jobs, and runs none."""
    makers = (toys.teller, toys.speaker, toys.enlarger, toys.letters, toys.brightness)
    backend = LocalBackend(*(served(make(), 1700000000) for make in makers))
    store = Store(tmp_path_factory.mktemp("store").as_uri())
    yield from serving(create_app(backend, desk=Desk(store, "http://127.0.0.1", backend)))


def ask_all(strategy) -> set[int]:
    """The statuses that made-up requests are answered with; each answer is checked."""
    statuses: set[int] = set()

    @settings(
        max_examples=CASES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def ask(case):
        statuses.add(case.call_and_validate(checks=CHECKS).status_code)

    ask()
    return statuses


def test_no_made_up_request_fails_or_is_answered_beyond_what_is_documented(url):
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    answered: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        answered[operation.label] = ask_all(operation.as_strategy())
        if operation.label.startswith("POST"):
            answered[operation.label] |= ask_all(operation.as_strategy(GenerationMode.NEGATIVE))
    print({label: sorted(statuses) for label, statuses in answered.items()})
    assert len(answered) == 21
    assert all(statuses - {404, 405} for label, statuses in answered.items() if "{" not in label)
    for label in ("POST /v1/completions", "POST /v1/generate/teller", "POST /v1/predict/letters"):
        assert {200, 422} <= answered[label]
