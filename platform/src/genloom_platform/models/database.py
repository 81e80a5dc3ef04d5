"""The registry's database: where MLflow keeps it, and what is told where it cannot be opened.

    GENLOOM_TRACKING, else <store>/mlflow.db, else (S3 holds no SQLite) a file in the home

A file is looked at before MLflow is: MLflow would try a broken one again and again for minutes.
"""

import contextlib
import functools
import json
import os
import re
import sqlite3
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from genloom.errors import StoreError
from genloom_platform.store import Store

EXPERIMENT = "genloom"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""So that MLflow's pages open it as training, not as chats."""
ARTIFACTS = "mlflow-artifacts"
"""The folder of the store that MLflow's own files go to."""
LOCKED_S = 20.0
"""How long another process may hold the database, as MLflow itself waits."""
AWAY = ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "REQUEST_LIMIT_EXCEEDED", "BAD_REQUEST")
"""MLflow's codes for a database or a server that fails, not for a request that is wrong."""
CLOSED = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")
"""MLflow's codes for a server that lets this user not in, or not do that."""
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
"""Nothing is sent anywhere, and a server that is gone is told in seconds; what is set already stays."""


def tracking_uri(store: Store) -> str:
    """Where MLflow keeps its database: GENLOOM_TRACKING, else SQLite in the store.

    A store in S3 cannot hold SQLite; then it is a file in the home of whoever works with that store,
    and a team that shares the store sets GENLOOM_TRACKING to its MLflow server.
    """
    if address := os.environ.get("GENLOOM_TRACKING"):
        return address
    if store.folder is not None:
        return f"sqlite:///{store.folder}/mlflow.db"
    name = re.sub(r"[^a-z0-9]+", "-", store.url.lower())
    folder = Path.home() / ".genloom"
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder}/mlflow-{name}.db"


class Client:
    """MLflow's client, whose failures are told in our words; it is otherwise called as MLflow's.

    Args:
        store: The store whose registry it is.
        anew: Whether a database that is gone is made anew, over the files of released models.
    """

    def __init__(self, store: Store, *, anew: bool = False) -> None:
        import logging

        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        self.uri = tracking_uri(store)
        file = _file(self.uri)
        if file:
            _check(store, file, anew)
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if file and not file.exists():
            _make(file)
        self._client: Any = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        self.search_registered_models(max_results=1)
        if file:
            _sign(file)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        @functools.wraps(method)
        def called(*args: Any, **kwargs: Any) -> Any:
            from mlflow.exceptions import MlflowException

            try:
                return method(*args, **kwargs)
            except MlflowException as error:
                if error.error_code in CLOSED:
                    raise StoreError(_closed(self.uri, error)) from error
                if error.error_code not in AWAY:
                    raise
                raise StoreError(_away(self.uri, error)) from error

        return called


def experiment(client: Client, store: Store) -> str:
    """The id of the experiment that runs are recorded in, made where there is none.

    Its artifacts lie in the store; those of a tracking server, where that server keeps them.

    Raises:
        StoreError: Someone has deleted it.
    """
    from mlflow.exceptions import MlflowException

    served = client.uri.startswith("http")
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        place = None if served else f"{store.url}/{ARTIFACTS}"
        try:
            return client.create_experiment(EXPERIMENT, artifact_location=place, tags=KIND)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(EXPERIMENT)
    if found.lifecycle_stage != "active":
        raise StoreError(
            f"the experiment {EXPERIMENT!r} of {client.uri} was deleted, so no run can be recorded; restore it: "
            f"mlflow experiments restore --experiment-id {found.experiment_id}"
        )
    return found.experiment_id


def _file(uri: str) -> Path | None:
    """The file of a SQLite database."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _make(file: Path) -> None:
    """Make a database as MLflow would, without waiting for the disk after each of its thousand steps."""
    from mlflow.store.db import utils
    from sqlalchemy import event

    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".registry-", dir=file.parent) as folder:
        draft = Path(folder) / file.name
        engine = utils.create_sqlalchemy_engine(f"sqlite:///{draft}")
        event.listen(engine, "connect", lambda made, _: made.execute("PRAGMA synchronous = OFF"))
        utils._initialize_tables(engine)  # pyright: ignore[reportPrivateUsage]
        engine.dispose()
        with draft.open("rb") as made:
            os.fsync(made.fileno())
        with contextlib.suppress(FileExistsError):  # another process made it meanwhile
            file.hardlink_to(draft)


def _check(store: Store, file: Path, anew: bool) -> None:
    """Raise StoreError where a database is gone, locked, damaged, or another MLflow's."""
    if not file.exists():
        lost = sum(len(store.names(f"models/{name}")) for name in store.names("models"))
        if lost and store.folder and not anew:
            raise StoreError(
                f"the registry {file} is gone, and {store.url} holds the files of {lost} released models; put it "
                f"back, or make it anew from them: genloom models recover"
            )
        return
    try:
        # For writing too: what a killed process had begun to write is taken back by the first to open it.
        with sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=LOCKED_S) as database:
            names = {row[0] for row in database.execute("select name from sqlite_master")}
            query = "select version_num from alembic_version"
            found = [row[0] for row in database.execute(query)] if "alembic_version" in names else []
    except sqlite3.DatabaseError as error:
        raise StoreError(_unreadable(file, str(error))) from error
    if found:
        _check_revision(file, found[0])


def _unreadable(file: Path, reason: str) -> str:
    if "locked" in reason:
        return (
            f"the registry {file} is locked by another process for {LOCKED_S:.0f} s; wait for it, or end it "
            f"(fuser {file} names it)"
        )
    return f"the registry {file} cannot be read: {reason}; put a good copy of it back"


def _check_revision(file: Path, revision: str) -> None:
    """Raise StoreError where a database has another schema than the installed MLflow's."""
    import mlflow.store
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    ours = version("mlflow")
    scripts = ScriptDirectory(str(Path(mlflow.store.__path__[0]) / "db_migrations"))
    if revision == scripts.get_current_head():
        return
    try:
        scripts.get_revision(revision)
    except CommandError:
        signed = _signature(file).get("mlflow", ours)
        remedy = f'pip install "mlflow=={signed}"' if signed != ours else "pip install --upgrade mlflow"
        raise StoreError(
            f"the registry {file} has the schema {revision} of a newer MLflow than this one, {ours}; {remedy}"
        ) from None
    raise StoreError(
        f"the registry {file} has the schema {revision} of an older MLflow than this one, {ours}; keep a copy of "
        f"it, then: mlflow db upgrade sqlite:///{file}"
    )


def _sign(file: Path) -> None:
    """Write beside a database which MLflow works with it, for those who come with an older one."""
    ours = version("mlflow")
    if _signature(file).get("mlflow") != ours:
        draft = file.with_suffix(f".{os.getpid()}.part")
        draft.write_text(json.dumps({"mlflow": ours}))
        draft.replace(file.with_suffix(".json"))


def _signature(file: Path) -> dict[str, str]:
    try:
        return json.loads(file.with_suffix(".json").read_text())
    except (OSError, ValueError):
        return {}


def _away(uri: str, error: Any) -> str:
    """What is told where a database or a server fails: its first line, and what to look at."""
    reason = str(error.message).strip().splitlines()[0].partition(" failed with exception ")[0]
    if file := _file(uri):
        return _unreadable(file, reason)
    said = shown(f"the registry {uri} does not answer: {reason[:300]}")
    return f"{said}; see that it runs (GENLOOM_TRACKING)"


def _closed(uri: str, error: Any) -> str:
    """What is told where a tracking server does not take who asks."""
    user = urlsplit(uri).username or os.environ.get("MLFLOW_TRACKING_USERNAME")
    variables = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    registry = f"the registry {shown(uri)}"
    if "Invalid Host header" in str(error.message):
        name = urlsplit(uri).netloc.rpartition("@")[2]
        return (
            f"{registry} does not answer to the name {name}; add it to the server's --allowed-hosts, or give "
            f"GENLOOM_TRACKING a name that is there"
        )
    if error.error_code == "PERMISSION_DENIED":
        return (
            f"{registry} does not let {user or 'this user'} do that; ask whoever runs it for the right, or set "
            f"{variables} to a user's who has it"
        )
    if not user and not os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return f"{registry} asks for a user and a password, and this machine has none; set {variables}"
    what = f"the password of the user {user}" if user else "the token in MLFLOW_TRACKING_TOKEN"
    return (
        f"{registry} refuses {what}: it is wrong, or no longer counts; whoever runs it has the right one "
        f"({variables})"
    )


def shown(text: str) -> str:
    """A text without the password that an address in it may hold."""
    return re.sub(r"//[^@/\s]*@", "//", text)
