"""The OpenAPI description of an endpoint: each served model's own prompt is a part of it."""

from typing import Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from genloom_platform.serve.catalog import ROUTES, Catalog, Kind
from genloom_platform.serve.errors import PROBLEM_TYPE, ErrorAnswer, ProblemAnswer
from genloom_platform.serve.files import FORMATS, made_of
from genloom_platform.serve.model import Card
from genloom_platform.serve.speaking.embeddings import EmbeddingsRequest
from genloom_platform.serve.speaking.images import EditRequest, GenerationRequest, VariationRequest
from genloom_platform.serve.speaking.speech import SpeechRequest
from genloom_platform.serve.speaking.text import ChatRequest, CompletionRequest

REFERENCE = "#/components/schemas/"
JSON, FORM = "application/json", "multipart/form-data"
REQUESTS: dict[str, type[BaseModel]] = {
    "/v1/completions": CompletionRequest,
    "/v1/chat/completions": ChatRequest,
    "/v1/images/generations": GenerationRequest,
    "/v1/images/edits": EditRequest,
    "/v1/images/variations": VariationRequest,
    "/v1/audio/speech": SpeechRequest,
    "/v1/embeddings": EmbeddingsRequest,
}
FORMS = ("/v1/images/edits", "/v1/images/variations")
"""Paths that take forms as well."""
STATUSES = {
    "400": "The body is no valid JSON, or no valid form.",
    "401": "No key was sent, or a wrong one.",
    "403": "Without a key the endpoint answers to this machine's own names only.",
    "404": "No such model is served.",
    "405": "The path takes another method.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body is of another type.",
    "422": "The request is wrong, and the message says where.",
    "429": "Too many requests were sent with this key; `Retry-After` says when to ask again.",
    "500": "The model or the endpoint failed.",
    "503": "Too many requests are under way, or the model is being started; see `Retry-After`.",
    "504": "The model gave no answer in time.",
}
SHAPES: dict[str, Any] = {
    "text/plain": {"schema": {"type": "string"}},
    "text/event-stream": {
        "schema": {
            "type": "object",
            "description": "Each event's data is JSON; that of the last is [DONE].",
            "properties": {"data": {"type": "string"}},
            "required": ["data"],
        }
    },
}
"""What answers of other types than JSON and files hold."""
OF_GET = ("401", "403", "404", "405", "429", "500", "503")
"""What a request without a body can be answered."""


def describe(app: FastAPI, catalog: Catalog, max_prompts: int, locked: bool) -> dict[str, Any]:
    """The description of an app that serves what a catalog lists."""
    schema = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components: dict[str, Any] = schema.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    paths: dict[str, Any] = schema["paths"]
    for shape in (ErrorAnswer, ProblemAnswer, *REQUESTS.values()):
        _add(schemas, shape)
    for path, shape in REQUESTS.items():
        types = (JSON, FORM) if path in FORMS else (JSON,)
        paths[path]["post"]["requestBody"] = _content(REFERENCE + shape.__name__, *types)
        if path not in FORMS and "stream" in shape.model_fields:
            _also(paths[path]["post"], "text/event-stream")
    sounds = {FORMATS[name].media_type: _binary() for name in made_of("audio")}
    paths["/v1/audio/speech"]["post"]["responses"]["200"]["content"] = sounds
    for kind, route in ROUTES.items():
        served = catalog.of_kind(kind)
        template = paths.pop(route + "/{model}")
        for name, card in served.items():
            schemas |= card.definitions
            schemas[_prompt_name(card)] = card.prompt_schema
            schemas[_request_name(card)] = _request(name, card, max_prompts, len(served) == 1)
            paths[f"{route}/{name}"] = _own_path(template, name, card)
        paths[route]["post"]["requestBody"] = _body(kind, served)
        if kind == "generator":
            paths[route]["post"]["parameters"] = _wishes(sorted(FORMATS))
            _also(paths[route]["post"], "text/event-stream", *_types(list(FORMATS)))
    _add_errors(paths)
    if locked:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, methods in paths.items():
            for operation in methods.values() if path.startswith("/v1/") else ():
                operation["security"] = [{"key": []}]
    return schema


def _own_path(template: dict[str, Any], name: str, card: Card) -> dict[str, Any]:
    """The path of one model, with its own prompt."""
    post = dict(template["post"])
    words = name.replace("@", "_").replace("-", "_").replace(".", "_")
    post["operationId"] = f"{post['operationId']}_{words}"
    post["summary"] = f"{'Generate' if card.kind == 'generator' else 'Predict'} with {name}"
    post["requestBody"] = _content(REFERENCE + _prompt_name(card), JSON, FORM)
    example = _example(card)
    if example is not None:
        post["requestBody"]["content"][JSON]["example"] = example
    post["parameters"] = []
    post["responses"] = {"200": dict(post["responses"]["200"])}
    if card.kind == "generator":
        post["parameters"] = _wishes(made_of(card.makes))
        _also(post, "text/event-stream", *_types(made_of(card.makes)))
    return {"post": post}


def _example(card: Card) -> dict[str, Any] | None:
    """A prompt that the model takes, or None where it needs what nobody can make up."""
    properties: dict[str, Any] = card.prompt_schema["properties"]
    example: dict[str, Any] = {"seed": 7}
    for name, field in card.fields.items():
        if field.required and field.takes != "text":
            return None
        if field.required:
            example[name] = "Once upon a time"
        elif properties[name].get("default") is not None:
            example[name] = properties[name]["default"]
    return example


def _wishes(formats: list[str]) -> list[dict[str, Any]]:
    """The query of a path that generates."""
    return [
        {
            "name": "format",
            "in": "query",
            "description": "The answer is this file of the one sample that is asked for. `Accept` does the same.",
            "schema": {"enum": ["json", *formats], "default": "json", "type": "string"},
        },
        {
            "name": "stream",
            "in": "query",
            "description": "The one sample that is asked for is sent in pieces while it is made, as events.",
            "schema": {"enum": ["true", "false"], "default": "false", "type": "string"},
        },
    ]


def _types(formats: list[str]) -> list[str]:
    return [FORMATS[name].media_type for name in formats]


def _also(operation: dict[str, Any], *media_types: str) -> None:
    """Describe further types of the good answer."""
    good = operation["responses"]["200"]
    further = {each: SHAPES.get(each, _binary()) for each in media_types}
    operation["responses"]["200"] = good | {"content": good["content"] | further}


def _binary() -> dict[str, Any]:
    return {"schema": {"type": "string", "format": "binary"}}


def _add(schemas: dict[str, Any], shape: type[BaseModel]) -> None:
    schema = shape.model_json_schema(ref_template=REFERENCE + "{model}")
    schemas |= cast(dict[str, Any], schema.pop("$defs", {}))
    schemas[shape.__name__] = schema


def _add_errors(paths: dict[str, Any]) -> None:
    content = {
        JSON: {"schema": {"$ref": f"{REFERENCE}{ErrorAnswer.__name__}"}},
        PROBLEM_TYPE: {"schema": {"$ref": f"{REFERENCE}{ProblemAnswer.__name__}"}},
    }
    for methods in paths.values():
        for method, operation in methods.items():
            statuses = OF_GET if method == "get" else tuple(STATUSES)
            operation["responses"] = {"200": operation["responses"]["200"]} | {
                status: {"description": STATUSES[status], "content": content} for status in statuses
            }


def _body(kind: Kind, served: dict[str, Card]) -> dict[str, Any]:
    """A request's body: one model's request, or that of the model that it names."""
    references = {name: REFERENCE + _request_name(card) for name, card in served.items()}
    if len(references) == 1:
        return _content(next(iter(references.values())), JSON)
    if references:
        full = {card.full_name: references[name] for name, card in served.items()}
        content: dict[str, Any] = {
            "oneOf": [{"$ref": reference} for reference in references.values()],
            "discriminator": {"propertyName": "model", "mapping": references | full},
        }
    else:
        content = {"not": {}, "description": f"No {kind} is served here."}
    return {"required": True, "content": {JSON: {"schema": content}}}


def _content(reference: str, *media_types: str) -> dict[str, Any]:
    content = {media_type: {"schema": {"$ref": reference}} for media_type in media_types}
    return {"required": True, "content": content}


def _request(name: str, card: Card, max_prompts: int, alone: bool) -> dict[str, Any]:
    """The body of a request to one model."""
    names = list(dict.fromkeys([name, card.full_name]))
    return {
        "title": f"Request to {name}",
        "type": "object",
        "additionalProperties": False,
        "required": ["prompts"] if alone else ["model", "prompts"],
        "properties": {
            "model": {
                "type": "string",
                "enum": names,
                "description": "Which model is asked" + ("; may be left out." if alone else "."),
            },
            "prompts": {
                "type": "array",
                "minItems": 1,
                "maxItems": max_prompts,
                "description": "One prompt for each answer.",
                "items": {"$ref": REFERENCE + _prompt_name(card)},
            },
        },
    }


def _prompt_name(card: Card) -> str:
    return f"{_component(card)}.Prompt"


def _request_name(card: Card) -> str:
    return f"{_component(card)}.Request"


def _component(card: Card) -> str:
    """A model's name as OpenAPI allows it in the name of a component."""
    return card.full_name.replace("@", "_")
