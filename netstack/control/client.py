"""Asks a running instance through its control socket: http.client over AF_UNIX, so that a command starts quickly."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from netstack.control.instances import InstanceError, running

__all__ = ["Client", "choose"]

TIMEOUT_SECONDS = 10.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """One instance, by the path of its socket."""

    def __init__(self, path: str) -> None:
        self.path = path

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """A request's answer: JSON decoded, other text as it is, None where there is none.

        Raises:
            InstanceError: the instance refuses (its own sentence), has gone, or does not answer in 10 s.
        """
        connection = _Connection(self.path)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as err:
            why = getattr(err, "strerror", None) or str(err) or "it closed the connection"
            raise InstanceError(f"the instance at {self.path} does not answer: {why}") from None
        finally:
            connection.close()
        is_json = answer.headers.get_content_type() == "application/json"
        value: Any = json.loads(data) if is_json else data.decode() or None
        if answer.status >= 400:
            raise InstanceError(value["error"] if is_json else f"the instance answers {answer.status}")
        return value


def choose(instance: str | None) -> Client:
    """The instance of a name or of a socket's path; without one, the only one that runs.

    Raises:
        InstanceError: there is none, or several and none was named.
    """
    if instance and "/" in instance:
        return Client(instance)
    found = running()
    if instance:
        if instance not in found:
            raise InstanceError(f"no instance {instance!r} runs: see netstack list")
        return Client(found[instance])
    if not found:
        raise InstanceError("no instance runs: start one with netstack serve, or with run --api on")
    if len(found) > 1:
        raise InstanceError(f"several instances run ({', '.join(found)}): choose one with --instance NAME")
    return Client(*found.values())
