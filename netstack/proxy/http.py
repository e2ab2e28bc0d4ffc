"""Requests and responses as they are passed on: without I/O, on h11's events (RFC 9110 7.6, RFC 9112 3.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import h11

from .patterns import split_authority
from .settings import Upstream

__all__ = [
    "BadRequest",
    "Target",
    "connect_request",
    "has_passed",
    "passed_request",
    "passed_response",
    "target_of",
    "upgrade_of",
    "via_of",
]

Headers = list[tuple[bytes, bytes]]
Fields = Iterable[tuple[bytes, bytes]]  # h11's own kind, or a list

#: Of one connection, and never passed on (RFC 9110 7.6.1), with those that are a proxy's own business.
HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"http2-settings")
)
OF_THE_PROXY = frozenset((b"proxy-authorization", b"proxy-authenticate", b"proxy-authentication-info"))


class BadRequest(Exception):
    """A request that cannot be passed on: the status and the sentence of the answer."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Target(NamedTuple):
    """What a request is for."""

    scheme: str  #: "http"; "https" for CONNECT
    host: str  #: without brackets
    port: int
    path: bytes  #: in origin-form (or "*"); b"" for CONNECT

    @property
    def authority(self) -> bytes:
        """HOST or HOST:PORT for ``Host`` and the absolute form; always with the port for CONNECT."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (host if self.scheme == "http" and self.port == 80 else f"{host}:{self.port}").encode()

    @property
    def absolute(self) -> bytes:
        """The absolute form (for ``OPTIONS *`` the one without a path)."""
        return b"http://" + self.authority + (b"" if self.path == b"*" else self.path)


def target_of(request: h11.Request, dialled: tuple[str, int] | None) -> Target:
    """What a request is for; ``dialled`` is where a guest that knows of no proxy believes to be.

    Raises:
        BadRequest: it cannot be told, or is nothing for a proxy.
    """
    raw = request.target
    if request.method == b"CONNECT":
        return Target("https", *_authority(raw, 443), b"")
    match = re.match(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(.*)\Z", raw, re.DOTALL)
    if match:
        scheme = match[1].lower()
        if scheme != b"http":
            shown = scheme.decode()
            raise BadRequest(
                501, f"Only http: is passed on as a request, and {shown}: is not; https: takes CONNECT."
            )
        host, port = _authority(match[2].rpartition(b"@")[2], 80)
        path = match[3].partition(b"#")[0]
        if not path.startswith(b"/"):
            path = b"*" if request.method == b"OPTIONS" and not path else b"/" + path
        return Target("http", host, port, path)
    if not raw.startswith(b"/") and raw != b"*":
        raise BadRequest(400, "The request names neither a path nor a URL.")
    if dialled is None:
        raise BadRequest(
            400,
            "This is a proxy: it takes whole URLs (http://host/path) and CONNECT, as a client does that knows of it.",
        )
    named = next((value for name, value in request.headers if name == b"host"), b"")
    host, port = _authority(named, dialled[1]) if named else dialled
    return Target("http", host, port, raw)


def _authority(raw: bytes, default: int) -> tuple[str, int]:
    try:
        return split_authority(raw.decode("ascii"), default)
    except ValueError:
        shown = raw[:100].decode("ascii", "replace")
        raise BadRequest(400, f"The host {shown!r} is none.") from None


def upgrade_of(request: h11.Request) -> bytes:
    """The protocol that a request asks to switch to, in small letters; b"" for none, and for what is not passed on."""
    asked = [v.lower() for n, v in request.headers if n == b"connection"]
    if not any(b"upgrade" in re.split(rb"[\s,]+", v) for v in asked):
        return b""
    protocol = next((v.strip().lower() for n, v in request.headers if n == b"upgrade"), b"")
    # HTTP/2 begins by its own knowledge or by ALPN; upgrading to it is gone (RFC 9113 3.1) and may be ignored
    return b"" if protocol.startswith((b"h2c", b"tls/")) else protocol


def _kept(headers: Fields, more: frozenset[bytes] = frozenset()) -> Headers:
    """Header fields without those of this hop; names as they were written."""
    listed = getattr(headers, "raw_items", lambda: headers)()
    items: Headers = [(bytes(name), bytes(value)) for name, value in listed]
    named = {
        token.lower()
        for name, value in items
        if name.lower() == b"connection"
        for token in re.split(rb"[\s,]+", value)
        if token
    }
    framed = {name.lower() for name, _ in items}
    drop = HOP_BY_HOP | more | (named - {b"host", b"content-length", b"transfer-encoding"})
    if (
        b"transfer-encoding" in framed
    ):  # RFC 9112 6.3: it counts, and both together are how requests are smuggled
        drop = drop | {b"content-length"}
    return [(name, value) for name, value in items if name.lower() not in drop]


def via_of(
    message: h11.Request | h11.Response | h11.InformationalResponse, name: bytes
) -> tuple[bytes, bytes]:
    """What a proxy says of itself in each message that it passes on (RFC 9110 7.6.3)."""
    return b"Via", message.http_version + b" " + name


def has_passed(request: h11.Request, name: bytes) -> bool:
    """Whether a request has been at this proxy (``name``: its pseudonym in ``Via``) before: it goes in a circle."""
    passed = (part.split() for n, v in request.headers if n == b"via" for part in v.split(b","))
    return any(len(words) > 1 and words[1].lower() == name for words in passed)


def hops_left(request: h11.Request) -> int | None:
    """How often TRACE or OPTIONS may still be passed on (RFC 9110 7.6.2); None where the request sets no limit."""
    if request.method not in (b"TRACE", b"OPTIONS"):
        return None
    value = next((value for name, value in request.headers if name == b"max-forwards"), b"")
    return int(value) if re.fullmatch(rb"[0-9]{1,20}", value) else None  # a longer one is no number of hops


def passed_request(
    request: h11.Request, target: Target, upstream: Upstream | None, upgrade: bytes = b"", via: bytes = b""
) -> h11.Request:
    """The request as it goes to ``upstream``, or (None) to the origin; ``via`` is the pseudonym of this proxy.

    Credentials for the proxy are those of its settings, or else the guest's own; the origin never sees either.
    """
    headers = [
        (name, value) for name, value in _kept(request.headers, OF_THE_PROXY) if name.lower() != b"host"
    ]
    left = hops_left(request)
    if left is not None:
        headers = [(name, value) for name, value in headers if name.lower() != b"max-forwards"]
        headers.append((b"Max-Forwards", b"%d" % (left - 1)))
    front: Headers = [(b"Host", target.authority)]
    if upstream is not None:
        front += _authorization(request.headers, upstream)
    if via:
        headers.append(via_of(request, via))
    if upgrade:
        offered = [v for n, v in request.headers if n == b"upgrade"]
        headers += [(b"Connection", b"Upgrade"), *((b"Upgrade", v) for v in offered)]
    return h11.Request(
        method=request.method,
        target=target.path if upstream is None else target.absolute,
        headers=front + headers,
    )


def _authorization(headers: Fields, upstream: Upstream) -> Headers:
    if upstream.authorization is not None:
        return [(b"Proxy-Authorization", upstream.authorization)]
    return [(b"Proxy-Authorization", v) for n, v in headers if n.lower() == b"proxy-authorization"][:1]


def connect_request(target: Target, upstream: Upstream, headers: Fields = ()) -> h11.Request:
    """The request for a tunnel; ``headers`` are those of the guest's own CONNECT, where it has made one, with our
    ``Via``."""
    authority = Target("https", target.host, target.port, b"").authority
    own = [(n, v) for n, v in headers if n.lower() in (b"user-agent", b"via")]
    return h11.Request(
        method=b"CONNECT",
        target=authority,
        headers=[(b"Host", authority), *_authorization(headers, upstream), *own],
    )


def passed_response(response: h11.Response, to_a_client_of_proxies: bool, via: bytes = b"") -> h11.Response:
    """The response as the guest gets it; h11 adds how its body is delimited."""
    headers = _kept(response.headers, frozenset() if to_a_client_of_proxies else OF_THE_PROXY)
    if via:
        headers.append(via_of(response, via))
    if response.status_code == 426:  # says what to upgrade to
        headers += [(b"Upgrade", v) for n, v in response.headers if n == b"upgrade"]
    return h11.Response(status_code=response.status_code, headers=headers, reason=response.reason)
