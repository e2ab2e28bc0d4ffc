"""The operations of the control API as data: what `api` routes, `openapi` describes and the tests walk through."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from msgspec import Meta

from netstack.control import answers
from netstack.control.captures import MEDIA

__all__ = ["ROUTES", "Route", "folded"]

Snaplen = Annotated[int, Meta(ge=0, le=262144, description="Bytes of a frame that are kept; 0 = all.")]
Seconds = Annotated[float, Meta(ge=0, le=1e9, description="Ends after this time; 0 = when it is told to.")]
Limit = Annotated[int, Meta(ge=0, le=1 << 62, description="Bytes that it may come to; 0 = no limit.")]
Expression = Annotated[str, Meta(description="Only frames that this pcap-filter expression lets pass.")]
Wire = Annotated[int, Meta(ge=0, le=1, description="1: super-frames are cut to what the wire would carry.")]
Kind = Annotated[str, Meta(description="Only records of this type, such as A.")]
Value = Annotated[str, Meta(description="Only the record with this value; needs its type as well.")]

WRONG = {400: "What is given cannot be used"}


class Route(NamedTuple):
    """One operation: what method answers it, with which type, and how it can fail."""

    method: str
    path: str
    handler: str
    summary: str
    answer: Any = None  #: type of the answer, None where it is not JSON
    status: int = 200
    request: Any = None  #: type of the request's body
    media: str | None = None  #: of an answer that is not JSON
    errors: dict[int, str] = {}  # noqa: RUF012  # never changed
    query: dict[str, Any] = {}  # noqa: RUF012  # parameter to type; all are optional
    error: Any = answers.Error  #: type of the body of an error; str is plain text
    tag: str = "netstack"  #: whose client it is for
    stream: bool = False  #: answered on the connection itself, by `Streams` or `Captures`
    #: where given, keys of the request's body are read as Go reads them: in any case, null as if it were not there,
    #: unknown ones left out. It maps the lower case of a key to how it is written, where that is another.
    loose: dict[str, str] | None = None


def folded(value: Any, names: dict[str, str]) -> Any:
    """JSON whose keys are written as `names` says, or in lower case; keys without a value are left out."""
    if isinstance(value, dict):
        return {
            names.get(key.lower(), key.lower()): folded(item, names)
            for key, item in value.items()
            if item is not None
        }
    return [folded(item, names) for item in value] if isinstance(value, list) else value


#: The API's own operations.
ROUTES = (
    Route("GET", "/v1/info", "info", "What this instance is", answers.Info),
    Route("GET", "/v1/stats", "stats", "All counters by name", dict[str, int]),
    Route("GET", "/v1/flows", "flows", "The flows at this moment", answers.Flows),
    Route("GET", "/v1/guests", "guests", "Leases and links", answers.Guests),
    Route("GET", "/v1/ports", "ports", "The published ports", answers.Ports),
    Route(
        "POST",
        "/v1/ports",
        "publish",
        "Publish a port",
        answers.Port,
        201,
        answers.Publish,
        errors={400: "The notation is wrong, or the port cannot be had"},
    ),
    Route(
        "DELETE",
        "/v1/ports/{id}",
        "release",
        "Release a published port; open connections go on",
        status=204,
        errors={404: "There is no such publication"},
    ),
    Route(
        "POST",
        "/v1/ping",
        "ping",
        "Send echo requests to a guest; each answer is a line of JSON (PingReply) as it comes",
        request=answers.Ping,
        media="application/x-ndjson",
        errors={404: "There is no such guest"},
        stream=True,
    ),
    Route(
        "POST",
        "/v1/connect",
        "connect",
        "Connect to a TCP port of a guest; the connected socket comes as a descriptor (SCM_RIGHTS) with the answer",
        status=101,
        request=answers.Connect,
        errors={
            404: "There is no such guest",
            426: "The request does not say Upgrade: descriptor",
            502: "The guest refuses, or cannot be reached",
            504: "The guest does not answer",
        },
        stream=True,
    ),
    Route("GET", "/v1/routes", "routes", "The host's routes to the guests", answers.Routes),
    Route(
        "POST",
        "/v1/routes",
        "route",
        "Make a route: a descriptor comes with the answer, for a RouteOffer, a RouteDevice with its TAP, and a Route",
        status=101,
        errors={
            409: "Guests are isolated, or no address is free",
            426: "The request does not say Upgrade: descriptor",
        },
        stream=True,
    ),
    Route(
        "DELETE",
        "/v1/routes/{id}",
        "unroute",
        "Take a route away, and its device",
        status=204,
        errors={404: "There is no such route"},
    ),
    Route("GET", "/v1/leases", "leases", "The addresses given out", answers.Leases),
    Route(
        "POST",
        "/v1/leases",
        "reserve",
        "Tie an address to a MAC or a client identifier for good",
        answers.Guest,
        201,
        answers.Reserve,
        errors={400: "The MAC, identifier, address or name cannot be, or the address is another's"},
    ),
    Route(
        "DELETE",
        "/v1/leases/{address}",
        "release_lease",
        "Free an address, leased or reserved",
        status=204,
        errors=WRONG | {404: "Nobody has this address"},
    ),
    Route("GET", "/v1/names", "names", "DNS records that the gateway answers itself", answers.Names),
    Route(
        "POST",
        "/v1/names",
        "add_name",
        "Add a DNS record",
        answers.Name,
        201,
        answers.AddName,
        errors={400: "The name, the type or the value cannot be"},
    ),
    Route(
        "DELETE",
        "/v1/names/{name}",
        "remove_name",
        "Remove DNS records that were added",
        status=204,
        errors=WRONG | {404: "None was added by this name, or it has another type or value"},
        query={"type": Kind, "value": Value},
    ),
    Route(
        "GET",
        "/v1/capture",
        "capture",
        "Capture every frame: pcapng, until the client goes",
        media=MEDIA,
        errors=WRONG | {409: "A capture is running"},
        query={
            "snaplen": Snaplen,
            "seconds": Seconds,
            "bytes": Limit,
            "filter": Expression,
            "wire_frames": Wire,
        },
        stream=True,
    ),
    Route(
        "POST",
        "/v1/capture",
        "start_capture",
        "Capture every frame to a file of the instance's host",
        answers.Capture,
        201,
        answers.StartCapture,
        errors={
            400: "The file cannot be written, or the ring or the filter cannot be",
            409: "A capture is running",
        },
    ),
    Route(
        "DELETE",
        "/v1/capture",
        "stop_capture",
        "Stop the capture, whoever has started it",
        answers.Capture,
        errors={404: "Nothing is captured"},
    ),
    Route("GET", "/v1/capture/state", "capture_state", "The capture that runs", answers.CaptureState),
    Route("GET", "/v1/impairment", "impairment", "The bad path of the links", answers.Impairment),
    Route(
        "PUT",
        "/v1/impairment",
        "impair",
        "Give the links a bad path",
        answers.Impairment,
        request=answers.Impairment,
        errors={400: "A path cannot be understood"},
    ),
    Route("DELETE", "/v1/impairment", "repair", "A good path again", status=204),
    Route("GET", "/v1/log-level", "log_level", "The least that is logged", answers.LogLevel),
    Route(
        "PUT",
        "/v1/log-level",
        "set_log_level",
        "Log from this level on",
        answers.LogLevel,
        request=answers.LogLevel,
        errors=WRONG,
    ),
    Route("POST", "/v1/shutdown", "shutdown", "Stop the instance", answers.Stopping, 202),
    Route(
        "GET",
        "/metrics",
        "metrics",
        "Counters and gauges for Prometheus",
        media="text/plain",
        errors={503: "prometheus_client is not installed"},
    ),
    Route("GET", "/v1/openapi.json", "openapi", "This description", dict[str, Any]),
)
