"""MLflow's server as `pages.py` starts it: without its assistant, which would run programs for whoever asks.

Everyone who works on this machine reaches its loopback ports, and none of them is to start programs as another.
"""

import json
import os
from typing import Any

from mlflow.server.handlers import initialize_backend_stores

ASSISTANT = "/ajax-api/3.0/mlflow/assistant"
URI, ARTIFACTS = "MLFLOW_BACKEND_STORE_URI", "MLFLOW_DEFAULT_ARTIFACT_ROOT"
"""Where `pages.py` leaves the addresses: not on the command line, for one may hold a password."""

initialize_backend_stores(os.environ[URI], os.environ[URI], os.environ[ARTIFACTS])

# After the stores: it looks for them.
from mlflow.server.fastapi_app import app as mlflow_app  # noqa: E402


async def app(scope: Any, receive: Any, send: Any) -> None:
    """MLflow's app, where the assistant is not found."""
    if scope["type"] != "http" or not scope["path"].startswith(ASSISTANT):
        await mlflow_app(scope, receive, send)
        return
    body = json.dumps({"detail": "the assistant is off"}).encode()
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": body})
