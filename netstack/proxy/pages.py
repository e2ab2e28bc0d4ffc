"""The pages that a guest sees when the proxy answers itself."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import h11

__all__ = ["Page", "answer", "last_page", "page"]

#: Fields that a TRACE does not send back (RFC 9110 9.3.8).
SECRET = frozenset({b"authorization", b"proxy-authorization", b"cookie"})

TITLES = {
    400: "Bad Request",
    403: "Forbidden",
    407: "Proxy Authentication Required",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    502: "Bad Gateway",
    504: "Gateway Timeout",
    508: "Loop Detected",
}


class Page(NamedTuple):
    """An answer of the proxy's own, which ends the connection."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...]
    reason: bytes


def page(status: int, sentence: str, extra: tuple[tuple[str, str], ...] = ()) -> Page:
    """A small HTML page that says in one sentence what is wrong; nothing in it is taken for markup."""
    title = TITLES.get(status, "Error")
    text = html.escape(sentence)
    body = (
        f"<!DOCTYPE html>\n<html><head><meta charset=utf-8><title>{status} {title}</title></head>\n"
        f"<body><h1>{status} {title}</h1>\n<p>{text}</p>\n<hr><p><small>netstack</small></p></body></html>\n"
    ).encode()
    return answer(
        status,
        title,
        body,
        ("Content-Type", "text/html; charset=utf-8"),
        ("Cache-Control", "no-store"),
        *extra,
    )


def answer(status: int, title: str, body: bytes, *headers: tuple[str, str]) -> Page:
    """An answer with these fields and those that every one has."""
    length = ("Content-Length", str(len(body)))
    return Page(status, body, (*headers, length, ("Connection", "close")), title.encode())


def last_page(request: h11.Request) -> Page:
    """The answer to TRACE or OPTIONS that may go no further: what has come here, or that this is a proxy."""
    if request.method == b"OPTIONS":
        return answer(
            200, "OK", b"", ("Allow", "GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH")
        )
    lines = [request.method + b" " + request.target + b" HTTP/" + request.http_version]
    lines += [
        name + b": " + value for name, value in request.headers.raw_items() if name.lower() not in SECRET
    ]
    body = b"\r\n".join([*lines, b"", b""])
    return answer(200, "OK", body, ("Content-Type", "message/http"))
