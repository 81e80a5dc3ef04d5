"""The OpenAPI description of an endpoint: each served model's own prompt is a part of it."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from genloom_platform.serve.catalog import ROUTES, Catalog, Kind
from genloom_platform.serve.model import Card

REFERENCE = "#/components/schemas/"


def describe(app: FastAPI, catalog: Catalog, max_prompts: int, locked: bool) -> dict[str, Any]:
    """The description of an app that serves what a catalog lists."""
    schema = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components: dict[str, Any] = schema.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    for kind, route in ROUTES.items():
        served = catalog.of_kind(kind)
        for name, card in served.items():
            alone = len(served) == 1
            schemas |= card.definitions
            schemas[_prompt_name(card)] = card.prompt_schema
            schemas[_request_name(card)] = _request(name, card, max_prompts, alone)
        schema["paths"][route]["post"]["requestBody"] = _body(kind, served)
    if locked:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, methods in schema["paths"].items():
            for operation in methods.values() if path.startswith("/v1/") else ():
                operation["security"] = [{"key": []}]
    return schema


def _body(kind: Kind, served: dict[str, Card]) -> dict[str, Any]:
    """A request's body: one model's request, or that of the model that it names."""
    references = {name: REFERENCE + _request_name(card) for name, card in served.items()}
    if len(references) == 1:
        content: dict[str, Any] = {"$ref": next(iter(references.values()))}
    elif references:
        full = {card.full_name: references[name] for name, card in served.items()}
        content = {
            "oneOf": [{"$ref": reference} for reference in references.values()],
            "discriminator": {"propertyName": "model", "mapping": references | full},
        }
    else:
        content = {"not": {}, "description": f"No {kind} is served here."}
    return {"required": True, "content": {"application/json": {"schema": content}}}


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
