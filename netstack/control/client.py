"""Asks a running instance through its control socket: http.client over AF_UNIX, so that a command starts quickly."""

from __future__ import annotations

import http.client
import io
import json
import socket
from collections.abc import Iterator
from typing import Any

from netstack.control.instances import InstanceError, running

__all__ = ["Client", "choose"]

TIMEOUT_SECONDS = 10.0
MAX_HEAD = 1 << 16  # bytes of an answer's head


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None = TIMEOUT_SECONDS) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _Received(io.BytesIO):
    """What has been received, as the socket that http.client wants to read an answer from."""

    def makefile(self, mode: str) -> io.BytesIO:
        return self


class Client:
    """One instance, by the path of its socket."""

    def __init__(self, path: str) -> None:
        self.path = path

    def stream(self, path: str) -> Iterator[bytes]:
        """What comes in answer to a GET, as it comes, until the instance ends it.

        Raises:
            InstanceError: the instance refuses, or goes away.
        """
        connection = _Connection(self.path)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            if answer.status >= 400:
                raise InstanceError(json.loads(answer.read())["error"])
            connection.sock.settimeout(None)
            while chunk := answer.read1(1 << 16):
                yield chunk
        except (OSError, http.client.HTTPException) as err:
            raise InstanceError(f"the instance at {self.path} has gone: {err}") from None
        finally:
            connection.close()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """A request's answer: JSON decoded, other text as it is, None where there is none.

        Raises:
            InstanceError: the instance refuses (its own sentence), has gone, or does not answer in 10 s.
        """
        connection = _Connection(self.path)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            return _value(connection.getresponse())
        except (OSError, http.client.HTTPException) as err:
            raise self._silent(err) from None
        finally:
            connection.close()

    def lines(self, method: str, path: str, body: Any, timeout: float) -> Iterator[Any]:
        """The answer's lines of JSON as they come, each within so many seconds. Close the iterator to end it.

        Raises:
            InstanceError: as `ask`.
        """
        connection = _Connection(self.path, timeout)
        try:
            connection.request(method, path, json.dumps(body))
            answer = connection.getresponse()
            if answer.status >= 400:
                _value(answer)
            for line in answer:
                yield json.loads(line)
        except (OSError, http.client.HTTPException) as err:
            raise self._silent(err) from None
        finally:
            connection.close()

    def descriptor(self, path: str, body: Any) -> tuple[socket.socket, int]:
        """A POST that is answered with a descriptor, sooner or later: the connection, which no longer speaks HTTP, and
        the descriptor.

        Raises:
            InstanceError: the instance refuses (its own sentence), or has gone.
        """
        connection = _Connection(self.path, None)
        try:
            text = None if body is None else json.dumps(body)
            connection.request("POST", path, text, {"Connection": "Upgrade", "Upgrade": "descriptor"})
            head, fds = b"", []
            while b"\r\n\r\n" not in head:
                # A descriptor comes with the bytes that it was sent with: a plain recv would lose it.
                data, more, _, _ = socket.recv_fds(connection.sock, MAX_HEAD, 1)
                head += data
                fds += more
                if not data or len(head) > MAX_HEAD:
                    raise http.client.BadStatusLine("its answer is cut short")
            if head.startswith(b"HTTP/1.1 101 ") and fds:
                sock, connection.sock = connection.sock, None
                return sock, fds[0]
            received = _Received(head)
            received.seek(0, io.SEEK_END)
            length = http.client.parse_headers(io.BytesIO(head.partition(b"\r\n")[2]))["Content-Length"]
            missing = head.index(b"\r\n\r\n") + 4 + int(length or 0) - len(head)
            while missing > 0 and (data := connection.sock.recv(missing)):
                received.write(data)
                missing -= len(data)
            received.seek(0)
            answer = http.client.HTTPResponse(received)  # type: ignore[arg-type]
            answer.begin()
            _value(answer)
            raise InstanceError(f"the instance at {self.path} gives no descriptor: it is of another version")
        except (OSError, http.client.HTTPException) as err:
            raise self._silent(err) from None
        finally:
            connection.close()

    def _silent(self, err: Exception) -> InstanceError:
        why = getattr(err, "strerror", None) or str(err) or "it closed the connection"
        return InstanceError(f"the instance at {self.path} does not answer: {why}")


def _value(answer: http.client.HTTPResponse) -> Any:
    data = answer.read()
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
