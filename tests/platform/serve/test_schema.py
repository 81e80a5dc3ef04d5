"""Requests that schemathesis makes up from the OpenAPI page: none fails, and no answer is undocumented."""

import http
import json

import pytest
import schemathesis
import serve_toys as toys
from conftest import LocalBackend, serving
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from genloom_platform.serve.app import create_app
from genloom_platform.serve.model import served

CASES = 15
"""Requests of each kind to each path."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def url():
    """A server of models none of which fails on a prompt that its schema allows."""
    makers = (toys.teller, toys.speaker, toys.enlarger, toys.letters, toys.brightness)
    yield from serving(create_app(LocalBackend(*(served(make(), 1700000000) for make in makers))))


def test_no_made_up_request_fails_or_is_answered_beyond_what_is_documented(url):
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    answered: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        statuses = answered.setdefault(operation.label, set())
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(
                max_examples=CASES,
                derandomize=True,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case, statuses=statuses):
                statuses.add(case.call_and_validate(checks=CHECKS).status_code)

            ask()
    assert len(answered) == 17
    for label, statuses in answered.items():
        assert statuses <= set(map(int, http.HTTPStatus)), label
        assert min(statuses) == 200 or "/v1/images" in label or "model" in label, json.dumps(
            [*statuses]
        )
