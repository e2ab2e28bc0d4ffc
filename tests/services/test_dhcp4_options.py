"""Options that a network may have besides addresses, as bytes and as a gateway's clients get them."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from stack import IP, SECOND, UDP, Ether

import netstack
from netstack.errors import ConfigError
from netstack.gateway import Gateway
from netstack.link.memory import MemoryLink
from netstack.services.dhcp4 import DhcpServer, DhcpSettings
from netstack.services.dhcp4_options import NO_PORTAL, classless_routes, service_options
from netstack.wire.dhcp4 import DISCOVER, DhcpMessage

ROUTER = IPv4Address("192.168.65.1")
ROUTES = ("10.0.0.0/8=192.168.65.9",)
CODED = bytes([8, 10, 192, 168, 65, 9, 0, 192, 168, 65, 1])


@pytest.mark.parametrize(
    ("route", "data"),  # RFC 3442's own examples of destinations
    [
        ("10.0.0.0/8", [8, 10]),
        ("10.0.0.0/24", [24, 10, 0, 0]),
        ("10.17.0.0/16", [16, 10, 17]),
        ("10.27.129.0/24", [24, 10, 27, 129]),
        ("10.229.0.128/25", [25, 10, 229, 0, 128]),
        ("10.198.122.47/32", [32, 10, 198, 122, 47]),
    ],
)
def test_routes(route: str, data: list[int]) -> None:
    via = [192, 168, 65, 9]
    assert classless_routes([f"{route}=192.168.65.9"], ROUTER) == bytes([*data, *via, 0, *ROUTER.packed])


def test_a_default_route_of_ones_own_replaces_the_gateway() -> None:
    assert classless_routes(["0.0.0.0/0=192.168.65.9"], ROUTER) == bytes([0, 192, 168, 65, 9])
    assert classless_routes([], ROUTER) == b""


def offer(asked: bytes | None, limit: int | None = None) -> dict[int, bytes]:
    options = service_options(
        ("192.168.65.7", "10.0.0.1"), ROUTES, "http://192.168.65.2/wpad.dat", "none", ROUTER
    )
    server = DhcpServer(
        DhcpSettings(
            server=ROUTER,
            network="192.168.65.0/24",  # type: ignore[arg-type]
            first=IPv4Address("192.168.65.3"),
            last=IPv4Address("192.168.65.9"),
            routers=(ROUTER,),
            extra=options,
        )
    )
    message = DhcpMessage(1, 1, bytes([2, 0, 0, 0, 0, 1]), {} if asked is None else {55: asked})
    message.message_type = DISCOVER
    reply = server.handle(message.build(), 0.0)
    assert reply is not None
    return dict(DhcpMessage.parse(reply.payload).options)


def test_each_is_given_to_who_asks() -> None:
    told = offer(bytes([42, 252, 114]))
    assert told[42] == bytes([192, 168, 65, 7, 10, 0, 0, 1])
    assert told[252] == b"http://192.168.65.2/wpad.dat"
    assert told[114] == NO_PORTAL
    assert 121 not in told
    assert not {42, 252, 114, 121} & offer(bytes([1, 3])).keys()


@pytest.mark.parametrize("asked", [[121, 3], [3, 121]])
def test_routes_stand_in_place_of_the_router(asked: list[int]) -> None:
    told = offer(bytes(asked))
    assert told[121] == CODED
    assert 3 not in told


def test_the_router_stays_for_who_knows_no_routes() -> None:
    assert offer(bytes([3]))[3] == ROUTER.packed
    told = offer(None)  # a client that names no options gets them all
    assert (told[3], told[121]) == (ROUTER.packed, CODED)


@pytest.mark.parametrize(
    "wrong",
    [
        {"dhcp_ntp": ("pool.example",)},
        {"dhcp_ntp": ("10.0.0.1",) * 64},
        {"dhcp_routes": ("10.0.0.0/8",)},
        {"dhcp_routes": ("10.0.0.1/8=192.168.65.9",)},
        {"dhcp_routes": ("10.0.0.0/8=fe80::1",)},
        {"dhcp_routes": ("10.1.2.3/32=192.168.65.9",) * 28},
        {"dhcp_wpad": "192.168.65.2/wpad.dat"},
        {"dhcp_wpad": "http://[/wpad.dat"},
        {"dhcp_wpad": "http://a/b c"},
        {"dhcp_wpad": "http://a/" + "b" * 250},
        {"dhcp_captive_portal": "http://portal.example/api"},
        {"dhcp_captive_portal": "yes"},
    ],
)
def test_a_gateway_refuses_at_once(wrong: dict[str, object]) -> None:
    (key,) = wrong
    with pytest.raises(ConfigError, match=f"^{key} "):
        Gateway(netstack.Config(dns=()).replace(**wrong), now_ns=1)


def told_by(config: netstack.Config, asked: tuple[int, ...] = (1, 121, 3, 42, 114, 252)) -> dict[int, bytes]:
    """The options of a gateway's offer."""
    gateway, link = Gateway(config, now_ns=SECOND), MemoryLink()
    gateway.add_memory(link)
    mac = "02:00:00:00:00:01"
    link.inject(
        bytes(
            Ether(src=mac, dst="ff:ff:ff:ff:ff:ff")
            / IP(src="0.0.0.0", dst="255.255.255.255")
            / UDP(sport=68, dport=67)
            / BOOTP(chaddr=bytes.fromhex(mac.replace(":", "")), xid=1, flags=0x8000)
            / DHCP(options=[("message-type", "discover"), ("param_req_list", list(asked)), "end"])
        )
    )
    gateway.step(SECOND + 1000)
    (frame,) = [data for data, _ in link.drain()]
    gateway.stop()
    return dict(DhcpMessage.parse(bytes(Ether(frame)[UDP].payload)).options)


def test_a_gateway_s_guest_gets_them() -> None:
    told = told_by(
        netstack.Config(
            dns=(),
            dhcp_ntp=("192.168.65.7",),
            dhcp_routes=ROUTES,
            dhcp_wpad="http://192.168.65.2/wpad.dat",
            dhcp_captive_portal="https://portal.example/api",
        )
    )
    assert told[42] == bytes([192, 168, 65, 7])
    assert told[121] == CODED
    assert told[252] == b"http://192.168.65.2/wpad.dat"
    assert told[114] == b"https://portal.example/api"
    assert 3 not in told


OWN = b"http://192.168.65.1:3128/wpad.dat"


@pytest.mark.parametrize(
    ("proxy", "wpad", "told"),
    [
        ("", None, None),
        ("http://10.0.0.1:8080", None, OWN),
        ("http://10.0.0.1:8080", "", None),
        ("http://10.0.0.1:8080", "off", None),
        ("http://10.0.0.1:8080", "http://a.example/p", b"http://a.example/p"),
        ("", "http://a.example/p", b"http://a.example/p"),
    ],
)
def test_the_gateway_s_own_file_is_told_while_there_is_a_proxy(
    proxy: str, wpad: str | None, told: bytes | None
) -> None:
    found = told_by(netstack.Config(dns=(), https_proxy=proxy, dhcp_wpad=wpad))
    assert found.get(252) == told
    assert 114 not in found, "nothing is said of captive portals"


def test_a_list_of_allowed_hosts_alone_is_no_proxy() -> None:
    assert 252 not in told_by(netstack.Config(dns=(), allow_host=("example.com",)))
