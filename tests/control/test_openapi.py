"""The API does what its description says, for whatever schemathesis makes of that description."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

import netstack
from netstack.control import api

pytest.importorskip("aiohttp")
pytest.importorskip("prometheus_client")
schemathesis = pytest.importorskip("schemathesis")
requests = pytest.importorskip("requests")

from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from urllib3.connection import HTTPConnection  # noqa: E402
from urllib3.connectionpool import HTTPConnectionPool  # noqa: E402

# What writes where the request says, or goes on for ever, has its own tests.
LEFT_OUT = r"^/v1/(capture|ping|connect)$|/pipe$"
SERVED = [
    r for r in api.ROUTES if r.path not in ("/v1/capture", "/v1/ping", "/v1/connect") and "pipe" not in r.path
]
SCHEMA = schemathesis.openapi.from_dict(api.described()).exclude(path_regex=LEFT_OUT)
SCHEMA.config.phases.coverage.enabled = False  # methods that are not there are test_api's
CONFORM = [status_code_conformance, content_type_conformance, response_schema_conformance]
asked: set[tuple[str, str]] = set()


class Unix(requests.adapters.HTTPAdapter):  # type: ignore[misc, name-defined, unused-ignore]
    """Brings every request of a session to a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> HTTPConnectionPool:
        path = self._path

        class Connection(HTTPConnection):
            def connect(self) -> None:
                self.sock = socket.socket(socket.AF_UNIX)
                self.sock.settimeout(30)
                self.sock.connect(path)

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection  # type: ignore[assignment, unused-ignore]

        return Pool("localhost")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The API of an instance in this process, whose end only counts."""
    path = str(tmp_path_factory.mktemp("openapi") / "s")
    ended: list[None] = []
    with netstack.start(netstack.Config(dns=())) as gateway:
        gateway.reserve("02:00:00:00:00:07", "192.168.65.7", "web")
        with api.ApiServer(gateway, path, "serve", lambda: ended.append(None)), requests.Session() as made:
            made.mount("http://", Unix(path))
            yield made
        assert ended
    assert asked >= {(route.method, route.path) for route in SERVED}


@SCHEMA.parametrize()
@settings(
    max_examples=5,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    deadline=None,
)
def test_conforms(case: Any, session: Any) -> None:
    asked.add((case.method.upper(), case.path))
    compatible = not case.path.startswith(("/v1/", "/metrics"))
    checks = [*CONFORM] if compatible else [*CONFORM, not_a_server_error, negative_data_rejection]
    # Go's way of reading JSON takes what it can use; and a 500 is how gvproxy says that a port cannot be had.
    case.call_and_validate(session=session, base_url="http://localhost", checks=checks)
