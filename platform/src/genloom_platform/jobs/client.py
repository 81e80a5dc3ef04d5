"""A cluster's job server, asked by Ray's own client: always with the cluster's token, never without an end."""

import hashlib
import json
import logging
import os
import re
import ssl
import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from genloom.errors import ClusterError, RequestError
from genloom_platform import tokens
from genloom_platform.jobs.reach import reach
from genloom_platform.profiles import LOOPBACK, Profile

if TYPE_CHECKING:
    import requests

TIMEOUT_S = (10, 120)
"""To connect, and for an answer: an upload has to be taken in."""

OWN = ("/api/version", "/api/jobs/")
"""Paths that a head answers without asking another machine, once it is up."""


CLOSED = (401, 403)
"""Statuses of an answer to one whose token is not the cluster's."""
TOO_LARGE = 413


class Unreachable(ClusterError):
    """No answer came; another try may succeed."""


@dataclass(frozen=True)
class Facts:
    """What a cluster says of itself."""

    ray: str
    python: str


class Cluster:
    """A cluster as a laptop sees it. It is reached when it is first asked; `close()` ends a tunnel to it."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._stack = ExitStack()
        self._end = weakref.finalize(self, self._stack.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def connect(self) -> None:
        """Reach it now; errors as for `client`."""
        _ = self.client

    def close(self) -> None:
        """End the tunnel, where there is one; the next question opens another."""
        self._stack.close()
        self.__dict__.pop("client", None)

    @cached_property
    def client(self) -> Any:
        """Ray's `JobSubmissionClient`, whose errors are Genloom's.

        Raises:
            RequestError: The token is missing, the profile says nothing of how the cluster is reached, or this
                machine's Ray is another than the cluster's.
            ClusterError: It does not answer, or refuses the token.
        """
        token = tokens.read(self.profile)
        client = _client(self.profile, self._stack.enter_context(reach(self.profile)), token)
        _same_ray(self.profile, client.answer("/api/version")["ray_version"])
        return client

    @cached_property
    def facts(self) -> Facts:
        """Its versions."""
        told = self.client.answer("/api/v0/cluster_metadata")["data"]
        return Facts(told["rayVersion"], told["pythonVersion"])


def session(profile: Profile, url: str) -> "requests.Session":
    """What asks a cluster at this address, as the environment says but for two things.

    Without TLS, and on loopback, nothing goes through a proxy, which would read the token; and .netrc is never
    read, whose password would take the token's place.
    """
    import requests
    from requests.utils import get_environ_proxies

    made = requests.Session()
    made.trust_env = False
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname not in LOOPBACK:
        made.proxies.update(get_environ_proxies(url))
    named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    made.verify = str(profile.ca) if profile.ca else named or True
    return made


def _client(profile: Profile, url: str, token: str) -> Any:
    try:
        import ray
        import requests
        from ray.dashboard.modules.dashboard_sdk import SubmissionClient
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise RequestError(
            f"a cluster is reached by Ray, which is not whole here: {error}; pip install "
            "'genloom[client]'"
        ) from error

    for name in (
        "ray.dashboard.modules.dashboard_sdk",
        "ray.dashboard.modules.job.sdk",
        "ray._private.runtime_env.packaging",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)  # they tell of every upload

    if profile.ca:
        _require_authority(profile)

    class Client(JobSubmissionClient):
        """Ray's client, with a limit to each request."""

        def __init__(self) -> None:
            self._client_ray_version = ray.__version__
            # Not Ray's own __init__: for that, RAY_ADDRESS counts more than the address it is given.
            SubmissionClient.__init__(
                self,
                address=url,
                headers={"Authorization": f"Bearer {token}"},
                verify=str(profile.ca) if profile.ca else True,  # of the log, which aiohttp follows
            )
            self._server_ray_version = ray.__version__

        def _do_request(
            self, method: str, endpoint: str, *, json_data: Any = None, **words: Any
        ) -> Any:
            # Not Ray's own: that sends the token wherever the environment says, to a proxy too.
            try:
                with session(profile, url) as asking:
                    answer = asking.request(
                        method,
                        f"{url}{endpoint}",
                        json=json_data,
                        headers=self._headers,
                        timeout=TIMEOUT_S,
                        **words,
                    )
                _require_taken(profile, method, f"{url}{endpoint}", answer.status_code)
                return answer
            except requests.exceptions.SSLError as error:
                raise ClusterError(
                    f"the certificate of {url} is not trusted here: {_cause(error)}; give the profile "
                    f"{profile.name} its authority, as in ca: acme-ca.pem"
                ) from error
            except requests.exceptions.RequestException as error:
                raise _silent(profile, url, error) from error

        def _upload_py_modules_if_needed(self, runtime_env: dict[str, Any]) -> None:
            """Send wheels as what they are, zips that Ray unpacks, once for each content.

            Given to Ray as wheels, pip would install them on every machine, with what they require, and they
            would be told apart by their file names alone.
            """
            if paths := runtime_env.get("py_modules"):
                runtime_env["py_modules"] = [self._sent(Path(path)) for path in paths]

        def _sent(self, zipped: Path) -> str:
            digest = hashlib.sha256(zipped.read_bytes()).hexdigest()
            uri = f"gcs://_ray_pkg_{digest}.zip"
            if not self._package_exists(uri):
                self._upload_package(uri, str(zipped), include_gitignore=False, is_file=True)
            return uri

        def answer(self, path: str) -> Any:
            """The JSON that a path answers."""
            found = self._do_request("GET", path)
            try:
                if found.ok:
                    return found.json()
                said = f"{found.status_code} {in_a_line(found.text)}"
            except json.JSONDecodeError:
                said = "no JSON"
            raise ClusterError(
                f"{url}{path} answers {said}, so it is no job server of Ray; check the address of the "
                f"profile {profile.name}"
            )

    return Client()


def _require_authority(profile: Profile) -> None:
    """Raise where the profile's authority is no certificate that can be read."""
    try:
        ssl.create_default_context(cafile=profile.ca)
    except OSError as error:
        raise RequestError(
            f"the authority {profile.ca} of the profile {profile.name} cannot be read "
            f"({error.strerror or error}); give its certificate as PEM: ca: acme-ca.pem"
        ) from error


def _silent(profile: Profile, url: str, error: Exception) -> Unreachable:
    start = f"genloom cluster up {profile.name} starts it" if profile.launch else "ask who runs it"
    return Unreachable(
        f"the cluster {profile.name} does not answer at {url}: {_cause(error)}; is it up? {start}"
    )


def _require_taken(profile: Profile, method: str, url: str, status: int) -> None:
    """Raise where an answer's status says that the request was not taken in."""
    if status in CLOSED:
        raise ClusterError(
            f"the cluster {profile.name} refuses the token of {_where(profile)}: it is "
            "another's or an old one; whoever runs the cluster has the right one"
        )
    if status == TOO_LARGE:
        raise RequestError(
            f"what travels is larger than the cluster {profile.name}, or a proxy before it, takes at once "
            f"({status} from {url}); put files into the store (genloom data import), and leave large ones out "
            "of the plugin"
        )
    if method == "GET" and urlsplit(url).path.endswith(OWN) and status >= 500:
        raise Unreachable(
            f"the cluster {profile.name} answers {status} at {url}: it may just be starting; ask again"
        )


def in_a_line(text: str, most: int = 200) -> str:
    """What a server says, without the tags of a page, as one short line."""
    bare = re.sub(r"(?is)<(style|script)\b.*?</\1>|<[^<>]*>", " ", text)
    line = " ".join(bare.split())
    return line if len(line) <= most else f"{line[:most].rstrip()} …"


def _same_ray(profile: Profile, there: str) -> None:
    import ray

    if there.split(".")[:2] != ray.__version__.split(".")[:2]:
        raise RequestError(
            f"the cluster {profile.name} runs Ray {there} and this machine has {ray.__version__}; the "
            f"two must agree: pip install 'ray[default]=={there}'"
        )


def _where(profile: Profile) -> str:
    source = profile.token_source
    return f"the environment's {source.env}" if source.env else str(source.file)


def _cause(error: BaseException) -> str:
    """The innermost reason, which requests and urllib3 wrap several times."""
    while True:
        inner = getattr(error, "reason", None) or next(iter(error.args), None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    return str(error).rpartition(": ")[2] or type(error).__name__
