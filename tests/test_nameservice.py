"""Names as a program and the host give them, seen by a guest of a stepped gateway."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dns_stack import Asking, Server, asking
from stack import GATEWAY, HOST

from netstack.errors import ConfigError
from netstack.wire.dns import DnsRecord


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.sock.close()


def values(guest: Asking, name: str, kind: str = "A") -> list[Any]:
    reply = guest.ask(name, kind)
    assert reply is not None, "it was asked of a server"
    return [
        reply.rcode,
        *(r.value if isinstance(r.value, (str, tuple)) else str(r.value) for r in reply.answers),
    ]


def test_names_of_the_settings() -> None:
    names = ("web.corp=10.0.0.5,fd00::5", "web.corp=TXT hello", "corp=MX 10 web.corp", "*.dev.corp=10.0.0.9",
             "www.corp=CNAME web.corp", "gateway.internal=10.0.0.1")  # fmt: skip
    with asking(names=names, zones=("corp",), names_ttl=60) as guest:
        assert values(guest, "WEB.corp") == [0, "10.0.0.5"]
        assert values(guest, "web.corp", "AAAA") == [0, "fd00::5"]
        assert values(guest, "web.corp", "TXT") == [0, (b"hello",)]
        assert values(guest, "corp", "MX") == [0, (10, "web.corp")]
        assert values(guest, "a.b.dev.corp") == [0, "10.0.0.9"]
        assert values(guest, "www.corp") == [0, "web.corp", "10.0.0.5"]
        assert values(guest, "gateway.internal") == [0, "10.0.0.1"]  # what is said counts
        assert values(guest, "5.0.0.10.in-addr.arpa", "PTR") == [0, "web.corp"]
        none = guest.ask("none.corp")
        assert none is not None
        assert (none.rcode, none.authority[0].type, none.authority[0].ttl) == (3, 6, 60)
        nothing = guest.ask("web.corp", "SRV")
        assert nothing is not None
        assert (nothing.rcode, nothing.answers, nothing.authority[0].type) == (0, [], 6)


def test_names_of_a_program(server: Server) -> None:
    with asking(server) as guest:
        dns = guest.stack.gateway.dns
        dns.set("web.corp", "10.0.0.5", ("TXT", "x"))
        assert values(guest, "web.corp") == [0, "10.0.0.5"]
        dns.set("Web.corp.", "10.0.0.6")
        assert values(guest, "web.corp") == [0, "10.0.0.6"]
        assert values(guest, "web.corp", "TXT") == [0]
        for bad in (("y.corp", ("CNAME", "y.corp")), ("y.corp", "nonsense"), ("a..b", "10.0.0.1")):
            with pytest.raises(ConfigError):
                dns.set(*bad)
        assert values(guest, "web.corp") == [0, "10.0.0.6"]
        assert guest.ask("none.corp") is None
        server.take()
        dns.add_zone("corp")
        assert values(guest, "none.corp") == [3]
        dns.remove_zone("corp")
        dns.remove("web.corp")
        dns.remove("web.corp")
        assert guest.ask("web.corp") is None


def test_a_hosts_file_is_followed(tmp_path: Path, server: Server) -> None:
    path = tmp_path / "hosts"
    with asking(server, hosts_file=str(path)) as guest:
        assert guest.ask("web.corp") is None  # there is none yet
        server.take()
        path.write_text("127.0.1.1 me.corp\n::1 me.corp localhost\n10.0.0.5 web.corp host.internal\n")
        guest.stack.gateway.dns.look()
        assert values(guest, "web.corp") == [0, "10.0.0.5"]
        assert values(guest, "me.corp") == [0, HOST]  # the host's loopback is the host to a guest
        assert values(guest, "host.internal") == [0, HOST]
        assert values(guest, "5.0.0.10.in-addr.arpa", "PTR") == [0, "web.corp"]
        assert guest.ask("localhost") is None
        other = tmp_path / "other"
        other.write_text("10.0.0.6 web.corp\n")
        other.rename(path)
        guest.stack.gateway.dns.look()
        assert values(guest, "web.corp") == [0, "10.0.0.6"]
        path.unlink()
        guest.stack.gateway.dns.look()
        assert values(guest, "web.corp") == [0, "10.0.0.6"]


class TestHook:
    def test_what_it_may_say(self, server):
        said = {
            "one.corp": "10.0.0.7",
            "two.corp": ["10.0.0.7", "10.0.0.8"],
            "mail.corp": ("MX", (5, "mx.corp")),
            "none.corp": [],
        }
        asked = []

        def answer(name, kind):
            asked.append((name, kind, threading.current_thread() is threading.main_thread()))
            return said[name.lower()]

        with asking(server) as guest:
            guest.stack.gateway.dns.hook(["corp"], answer)

            def got(name, kind="A"):
                reply = guest.ask(name, kind) or guest.wait()
                return [reply.rcode, *(str(r.value) for r in reply.answers)]

            assert got("One.Corp") == [0, "10.0.0.7"]
            assert got("two.corp") == [0, "10.0.0.7", "10.0.0.8"]
            assert got("mail.corp", "MX") == [0, "(5, 'mx.corp')"]
            assert got("mail.corp", "A") == [0]
            assert got("none.corp") == [0]
            assert got("missing.corp") == [3]  # KeyError: there is no such name
            assert got("gateway.internal") == [0, GATEWAY]
            assert asked[0] == ("One.Corp", "A", False)
            assert len(asked) == 6
            assert guest.ask("example") is None  # not in its zone
            assert server.take().questions[0].name == "example"

    def test_none_leaves_it_to_the_servers_and_an_error_is_servfail(self, server):
        asked = []

        def answer(name, kind):
            asked.append(name)
            if name == "bad.corp":
                raise RuntimeError("on purpose")
            return

        with asking(server) as guest:
            guest.stack.gateway.dns.hook(["corp"], answer)
            for _ in range(5):  # which is no fault of the hook: it is asked each time
                assert guest.ask("other.corp") is None
                taken = threading.Thread(target=lambda: server.answer(server.take()))
                taken.start()
                assert guest.wait().rcode == 0
                taken.join()
            assert guest.stat("servers_down") == 0
            assert asked == ["other.corp"] * 5
            with asking() as alone:
                alone.stack.gateway.dns.hook(["corp"], answer)
                assert (alone.ask("bad.corp") or alone.wait()).rcode == 2
            guest.stack.gateway.dns.unhook(["corp"])
            guest.ask("new.corp")
            assert server.take().questions[0].name == "new.corp"

    def test_a_coroutine_function(self):
        async def answer(name, kind):
            await asyncio.sleep(0)
            return "10.0.0.7"

        with asking() as guest:
            guest.stack.gateway.dns.hook([""], answer)
            reply = guest.ask("any.name") or guest.wait()
            assert str(reply.answers[0].value) == "10.0.0.7"


def test_zones_of_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    """A resolv.conf that is resolved's says less than resolvectl, which is asked; and asked again when that changes."""
    from netstack import nameservice

    vpn = Server()
    states = tmp_path / "netif"
    states.mkdir()
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    tool = tmp_path / "resolvectl"

    def says(*domains: str) -> None:
        link = "\nLink 7 (tun0)\n  DNS Servers: 127.0.0.1:{}\n  DNS Domain: {}\n".format(
            vpn.port, " ".join(domains)
        )
        tool.write_text(
            f"#!/bin/sh\ncat <<END\nGlobal\n  DNS Servers: 127.0.0.1:{server.port}\n{link if domains else ''}END\n"
        )
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        (states / "7").write_text(" ".join(domains))

    says()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(nameservice, "RESOLVED", f"{tmp_path}/")
    monkeypatch.setattr(nameservice, "RESOLVED_STATES", (str(states),))
    with asking(dns=None, resolv_conf=str(tmp_path / "resolv.conf")) as guest:
        assert guest.ask("db.corp.example") is None
        assert server.take().questions[0].name == "db.corp.example"
        says("corp.example", "~lab.example")
        guest.stack.gateway.dns.look()
        assert guest.stack.gateway.dns.search == ("corp.example",)
        assert guest.ask("db2.corp.example") is None
        query = vpn.take()
        while query.questions[0].name != "db2.corp.example":  # what was under way is asked again, too
            query = vpn.take()
        vpn.answer(query, DnsRecord.of("db2.corp.example", "A", "10.8.0.5", 60))
        guest.wait()
        assert guest.ask("www.example") is None
        assert server.take().questions[0].name == "www.example"
    vpn.sock.close()
