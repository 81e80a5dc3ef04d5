"""The page `/docs`: Swagger UI over `/openapi.json`. All of it is this endpoint's: no third party is asked."""

from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse, Response

PATH = "/docs"
FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")
PATHS = frozenset({PATH, *(f"{PATH}/{name}" for name in FILES)})
"""All that the page asks for, beside `/openapi.json`."""
KEPT_S = 3600
"""How long a browser may keep the files, which change with the installed package alone."""


def add_page(app: FastAPI) -> None:
    """Add the page and its files, which come with the package fastapi-offline."""
    folder = files("fastapi_offline") / "static"

    @app.get(PATH, include_in_schema=False)
    async def page(request: Request) -> Response:
        root = request.scope.get("root_path", "").rstrip("/")
        script, style, icon = (f"{root}{PATH}/{name}" for name in FILES)
        return get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=app.title,
            swagger_js_url=script,
            swagger_css_url=style,
            swagger_favicon_url=icon,
            # Or it shows the page of any but a local endpoint to a validator of its makers.
            swagger_ui_parameters={"validatorUrl": None},
        )

    for name in FILES:
        app.add_api_route(f"{PATH}/{name}", _sends(str(folder / name)), include_in_schema=False)
    _ = page


def _sends(path: str) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return FileResponse(path, headers={"Cache-Control": f"max-age={KEPT_S}"})

    return send
