"""A proxy that does what a test tells it, and is origin for everything at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import netstack
from netstack.testing.lab import Lab
from netstack.testing.namespace import Namespace
from netstack.testing.servers import TcpServer

Reply = Callable[["Request", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]


OK = b"HTTP/1.1 200 OK\r\n"


class Request:
    """A request as it arrived: its first line, and its header fields in small letters."""

    def __init__(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, self.version = first.split(" ")
        self.headers: dict[str, str] = {}
        self.pairs = [line.partition(": ")[::2] for line in lines if line]
        for name, value in self.pairs:
            self.headers[name.lower()] = value
        self.body = b""

    @property
    def path(self) -> str:
        """Without scheme and host, where the target has them."""
        rest = self.target.partition("://")[2]
        return "/" + rest.partition("/")[2] if rest else self.target


async def read_body(request: Request, reader: asyncio.StreamReader) -> bytes:
    """The body as HTTP/1.1 delimits it."""
    if request.headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readline()
        while (await reader.readline()).strip():
            pass
        return body
    return await reader.readexactly(int(request.headers.get("content-length", "0")))


class ScriptedProxy:
    """Serves a listening socket; ``requests`` are those that have come, ``reply`` what is done with one.

    ``reply`` gets the request (its body is still to be read), and returns whether the connection goes on.
    """

    def __init__(self, sock: socket.socket, reply: Reply) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.reply = reply
        self.address = sock.getsockname()
        self._server = TcpServer(sock, self._serve)

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            going_on = True
            while going_on:
                head = await reader.readuntil(b"\r\n\r\n")
                request = Request(head[:-4])
                self.requests.append(request)
                going_on = await self.reply(request, reader, writer)
                await writer.drain()

    def __enter__(self) -> ScriptedProxy:
        self._server.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._server.__exit__(*exception)


async def everything(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """By the path: what HTTP has; CONNECT: an echo, after a greeting where the host is called so."""
    if request.method == "CONNECT":
        if request.target.startswith("refused."):
            writer.write(b"HTTP/1.1 403 Filtered\r\nContent-Length: 5\r\n\r\nnever")
            return True
        early = b"hello first;" if request.target.startswith("greets.") else b""
        writer.write(b"HTTP/1.1 200 OK\r\nX-Odd: 1\r\n\r\n" + early)
        if request.target.startswith("dies."):
            await reader.read(1)
            writer.write(b"half")
            linger = socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(*linger)  # it ends with a reset
            writer.transport.abort()
            return False
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        return False
    name = request.path.strip("/").partition("?")[0]
    if request.headers.get("expect") == "100-continue":
        if name == "reject":
            writer.write(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return False
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    if request.headers.get("upgrade") == "echo" and name == "switch":
        writer.write(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly;")
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        return False
    request.body = await read_body(request, reader)
    text = request.body or f"{name} of {request.headers.get('host')}".encode()
    answers = {
        "empty": b"HTTP/1.1 204 No Content\r\n\r\n",
        "same": b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 100\r\n\r\n',
        "chunked": OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=1\r\ndefg\r\n0\r\nA: b\r\n\r\n",
        "hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "odd": b"HTTP/1.1 299 Odd Indeed\r\nContent-Length: 3\r\nKeep-Alive: 5\r\nConnection: x-hop\r\nX-Hop: 1\r\n"
        b"\r\nodd",
        "garbage": b"SSH-2.0-OpenSSH\r\n\r\n",
        "short": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        "until-end": b"HTTP/1.1 200 OK\r\n\r\nup to the end",
        "needs": b'HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n',
    }
    if name == "silent":
        await reader.read(1)
        return False
    if name == "never":
        return False
    if name in answers:
        writer.write(answers[name])
        return name not in ("garbage", "short", "until-end")
    length = f"Content-Length: {len(text)}\r\n".encode()
    closing = b"Connection: close\r\n" if name == "last" else b""
    writer.write(
        b"HTTP/1.1 200 OK\r\n" + length + closing + b"\r\n" + (b"" if request.method == "HEAD" else text)
    )
    return name != "last"


def hello(name: str | None) -> bytes:
    """The ClientHello of OpenSSL for a host of this name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


@dataclass
class Net:
    """The laboratory of a module, and its scripted proxy at the router."""

    lab: Lab
    router: Namespace
    world: Namespace
    proxy: ScriptedProxy

    @contextlib.contextmanager
    def gateway(self, **options: Any) -> Iterator[netstack.Gateway]:
        """A gateway whose proxy, unless the options say another, is the scripted one."""
        settings = {"http_proxy": self.proxy.url, "https_proxy": self.proxy.url, "dns": ()} | options
        self.proxy.requests.clear()
        self.proxy.reply = everything
        with self.lab.gateway(netstack.Config(**settings)) as gateway:
            yield gateway

    def curl(self, *args: str, check: bool = True) -> str:
        """What curl prints in the guest, without proxy settings of its own."""
        argv = ("curl", "-sS", "-m", "20", *(() if "-x" in args else ("--noproxy", "*")), *args)
        return self.lab.guest.run(*argv, check=check).stdout


def until(sock: socket.socket, length: int) -> bytes:
    """So many bytes."""
    out = b""
    while len(out) < length:
        piece = sock.recv(length - len(out))
        assert piece, f"ended after {out!r}"
        out += piece
    return out


def wait(true: Callable[[], Any], seconds: float = 20.0) -> None:
    """Until something has come to pass."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it has not come to pass"
        time.sleep(0.02)
