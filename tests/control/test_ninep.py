"""9P2000 and VPNKit's tree of ports, byte by byte, and against every other sequence of bytes."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from netstack.control import ninep
from netstack.control.ninep import Malformed, Problem, Session, Tree, take

SPEC = "tcp:127.0.0.1:0:tcp:192.168.65.3:80"
RESOLVED = "tcp:127.0.0.1:8080:tcp:192.168.65.3:80"


class Ports:
    """Counts what is published."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.tree = Tree(self.publish)

    def publish(self, text: str) -> tuple[str, Callable[[], None]]:
        if not text.startswith("tcp:"):
            raise Problem(f"cannot have {text}")
        spec = text.replace(":0:", ":8080:")
        self.open.append(spec)
        return spec, lambda: self.open.remove(spec)


class Client:
    """Builds requests and takes replies apart."""

    def __init__(self, ports: Ports) -> None:
        self.session = Session(ports.tree)
        self.ask(100, struct.pack("<I", 8192) + ninep.text("9P2000"))
        self.ask(104, struct.pack("<II", 0, 0xFFFFFFFF) + ninep.text("u") + ninep.text(""))

    def ask(self, kind: int, body: bytes) -> bytes:
        message = struct.pack("<BH", kind, 1) + body
        reply = bytearray(self.session.answer(message))
        cut = take(reply)
        assert cut is not None
        assert not reply
        if cut[0] == 107:
            raise Problem(cut[5:].decode())
        assert cut[0] == kind + 1
        assert cut[1:3] == b"\1\0"
        return cut[3:]

    def walk(self, new: int, *names: str, fid: int = 0) -> int:
        body = struct.pack("<IIH", fid, new, len(names)) + b"".join(map(ninep.text, names))
        return int.from_bytes(self.ask(110, body)[:2], "little")

    def open(self, fid: int, mode: int = 0) -> bytes:
        return self.ask(112, struct.pack("<IB", fid, mode))

    def mkdir(self, name: str) -> None:
        self.walk(99)
        try:
            self.ask(114, struct.pack("<I", 99) + ninep.text(name) + struct.pack("<IB", 0x800001ED, 0))
        finally:
            self.clunk(99)

    def read(self, fid: int, offset: int = 0, count: int = 4096) -> bytes:
        return self.ask(116, struct.pack("<IQI", fid, offset, count))[4:]

    def write(self, fid: int, data: bytes) -> None:
        assert self.ask(118, struct.pack("<IQI", fid, 0, len(data)) + data) == struct.pack("<I", len(data))

    def clunk(self, fid: int) -> None:
        self.ask(120, struct.pack("<I", fid))

    def remove(self, fid: int) -> None:
        self.ask(122, struct.pack("<I", fid))

    def names(self, fid: int, count: int = 4096) -> list[str]:
        out, data, offset = [], b"x", 0
        while data:
            data = self.read(fid, offset, count)
            offset += len(data)
            at = 0
            while at < len(data):
                size, length = (
                    struct.unpack_from("<H", data, at)[0],
                    struct.unpack_from("<H", data, at + 41)[0],
                )
                out.append(data[at + 43 : at + 43 + length].decode())
                at += 2 + size
        return out


@pytest.fixture
def ports() -> Ports:
    return Ports()


@pytest.fixture
def client(ports: Ports) -> Client:
    return Client(ports)


def expose(client: Client, name: str = "web", fid: int = 1, spec: str = SPEC) -> str:
    client.mkdir(name)
    client.walk(fid, name, "ctl")
    client.open(fid)
    assert client.read(fid) == b"ERROR no request received. Please read the README.\n"
    client.write(fid, spec.encode())
    return client.read(fid).decode()


# A conversation as VPNKit's Go client has it: what goes in, and what comes out.
GOLDEN = [
    ("13000000 64 ffff 00200000 0600 395032303030", "13000000 65 ffff 00200000 0600 395032303030"),
    ("14000000 68 0100 00000000 ffffffff 0100 75 0000", "14000000 69 0100 80 00000000 0000000000000000"),
    ("11000000 6e 0100 00000000 01000000 0000", "09000000 6f 0100 0000"),
    (
        "13000000 72 0100 01000000 0100 61 ed010080 00",
        "18000000 73 0100 80 00000000 0200000000000000 e81f0000",
    ),
    (
        "19000000 6e 0100 00000000 02000000 0200 0100 61 0300 63746c",
        "23000000 6f 0100 0200 80 00000000 0200000000000000 00 00000000 0300000000000000",
    ),
    ("0c000000 70 0100 02000000 00", "18000000 71 0100 00 00000000 0300000000000000 e81f0000"),
    (
        "17000000 74 0100 02000000 0000000000000000 64000000",
        "3e000000 75 0100 33000000" + b"ERROR no request received. Please read the README.".hex() + "0a",
    ),
    (
        "3a000000 76 0100 02000000 0000000000000000 23000000" + SPEC.encode().hex(),
        "0b000000 77 0100 23000000",
    ),
    (
        "17000000 74 0100 02000000 0000000000000000 64000000",
        "35000000 75 0100 2a000000" + f"OK {RESOLVED}\n".encode().hex(),
    ),
    ("0b000000 78 0100 02000000", "07000000 79 0100"),
    ("0b000000 78 0100 02000000", "16000000 6b 0100 0d00" + b"fid not found".hex()),
]


def test_golden(ports: Ports) -> None:
    session = Session(ports.tree)
    for i, (request, reply) in enumerate(GOLDEN):
        buffer = bytearray.fromhex(request)
        message = take(buffer)
        assert message is not None
        assert not buffer
        assert session.answer(message) == bytes.fromhex(reply), (i, request)
        assert ports.open == ([RESOLVED] if i in (7, 8) else [])


def test_closing_ctl_frees_the_port(ports: Ports, client: Client) -> None:
    assert expose(client) == f"OK {RESOLVED}\n"
    assert ports.open == [RESOLVED]
    with pytest.raises(Problem, match="permission denied"):
        client.write(1, SPEC.encode())
    client.walk(5, "web")
    client.open(5)
    assert client.read(5).decode() == f"{RESOLVED}\n"
    client.walk(6, "web", "ctl")
    client.clunk(6)  # which was never opened
    assert ports.open == [RESOLVED]
    client.clunk(1)
    assert ports.open == []
    with pytest.raises(Problem, match="file not found"):
        client.walk(7, "web")


@pytest.mark.parametrize("how", ["connection", "remove entry", "remove ctl", "version", "another client"])
def test_what_else_frees_it(ports: Ports, client: Client, how: str) -> None:
    expose(client)
    if how == "connection":
        client.session.close()
    elif how == "remove entry":
        client.walk(2, "web")
        client.remove(2)
    elif how == "remove ctl":
        client.remove(1)
    elif how == "version":
        client.ask(100, struct.pack("<I", 8192) + ninep.text("9P2000"))
    else:  # as VPNKit's Unexpose does
        other = Client(ports)
        other.walk(1, "web", "ctl")
        other.open(1)
        other.clunk(1)
    assert ports.open == []
    assert ports.tree.entries() == []
    client.session.close()


def test_an_error_is_read_and_the_name_is_free_again(ports: Ports, client: Client) -> None:
    assert expose(client, spec="sctp:1") == "ERROR cannot have sctp:1\n"
    assert ports.open == []
    client.clunk(1)
    assert expose(client) == f"OK {RESOLVED}\n"
    assert expose(client, "long", 2, "tcp:" + "x" * ninep.MAX_SPEC).startswith(
        "ERROR a specification has at most"
    )


def test_listing(ports: Ports, client: Client) -> None:
    for i in range(50):
        client.mkdir(f"port{i}")
    client.walk(1, "port3", "ctl")
    client.open(1)
    client.write(1, SPEC.encode())
    client.walk(2)
    client.open(2)
    wanted = ["README", *(f"port{i}" for i in range(50))]
    assert client.names(2) == wanted
    client.walk(3)
    client.open(3)
    assert client.names(3, 70) == wanted  # one at a time
    with pytest.raises(Problem, match="bad offset"):
        client.read(3, 1)
    client.walk(4, "port4")
    client.open(4)
    assert client.names(4) == ["ctl"]
    client.walk(5, "README")
    client.open(5)
    assert b"ctl" in client.read(5)
    other = Client(ports)
    client.session.close()
    other.walk(1)
    other.open(1)
    assert other.names(1) == ["README"]  # directories that nobody has used go with whoever made them


def test_what_is_refused(client: Client) -> None:
    expose(client)
    client.walk(2, "README")
    refusals: list[tuple[str, Callable[[], object]]] = [
        ("file exists", lambda: client.mkdir("web")),
        ("file exists", lambda: client.mkdir("README")),
        ("illegal name", lambda: client.mkdir("a/b")),
        ("illegal name", lambda: client.mkdir("..")),
        ("illegal name", lambda: client.mkdir("")),
        ("illegal name", lambda: client.mkdir("x" * 256)),
        ("file not found", lambda: client.walk(9, "none")),
        ("file not found", lambda: client.walk(9, "README", fid=2)),
        ("fid in use", lambda: client.walk(2)),
        ("fid not found", lambda: client.walk(9, fid=8)),
        ("cannot walk an open file", lambda: client.walk(9, "..", fid=1)),
        ("permission denied", lambda: client.open(2, 1)),
        ("permission denied", lambda: client.write(2, b"x")),
        ("permission denied", lambda: client.write(0, b"x")),
        ("file not open", lambda: client.read(2)),
        ("permission denied", lambda: client.remove(2)),
        ("authentication", lambda: client.ask(102, b"")),
        ("permission denied", lambda: client.ask(126, struct.pack("<IH", 0, 49) + bytes(49))),
    ]
    for words, ask in refusals:
        with pytest.raises(Problem, match=words):
            ask()
    assert client.walk(3, "web", "nothing") == 1  # as far as it goes; then there is no fid 3
    with pytest.raises(Problem, match="fid not found"):
        client.clunk(3)
    keep = struct.pack("<HI", 0xFFFF, 0xFFFFFFFF) + b"\xff" * 13 + b"\xff" * 12 + bytes(8) + bytes(8)
    client.ask(
        126, struct.pack("<IH", 1, len(keep) + 2) + struct.pack("<H", len(keep)) + keep
    )  # truncates ctl


def test_bounds(ports: Ports, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for fid in range(1, ninep.MAX_FIDS):
        client.walk(fid)
    with pytest.raises(Problem, match="too many fids"):
        client.walk(ninep.MAX_FIDS)
    client.clunk(1)
    monkeypatch.setattr(ninep, "MAX_ENTRIES", 3)
    for name in "abc":
        client.walk(1)
        client.ask(114, struct.pack("<I", 1) + ninep.text(name) + struct.pack("<IB", 0x800001ED, 0))
        client.clunk(1)
    with pytest.raises(Problem, match="too many ports"):
        ports.tree.make("d")
    for size in (0, 6, ninep.MAX_MESSAGE + 1, 0xFFFFFFFF):
        with pytest.raises(Malformed):
            take(bytearray(struct.pack("<I", size) + bytes(100)))
    assert take(bytearray(b"\x07\0\0\0\x6c")) is None


@given(st.binary(max_size=200), st.lists(st.binary(max_size=120), max_size=8))
@settings(max_examples=200)
def test_any_bytes(stream: bytes, messages: list[bytes]) -> None:
    """No bytes do anything but be answered or refused, and the end leaves nothing."""
    ports = Ports()
    session = Session(ports.tree)
    with contextlib.suppress(Malformed):
        buffer = bytearray(stream)
        while (message := take(buffer)) is not None:
            session.answer(message)
    for message in messages:
        try:
            reply = session.answer(message)
        except Malformed:
            continue
        assert struct.unpack_from("<I", reply)[0] == len(reply) <= session.limit
    session.close()
    assert ports.open == []
    assert ports.tree.entries() == []


FIDS = st.integers(0, 4)
NAMES = st.sampled_from(["a", "b", "ctl", "README", "..", "x"])


class AnyClient(RuleBasedStateMachine):
    """Two connections that do what they like: what is published is what some open ctl stands for."""

    @initialize()
    def begin(self) -> None:
        self.ports = Ports()
        self.clients = [Client(self.ports), Client(self.ports)]

    @rule(
        who=st.integers(0, 1),
        kind=st.sampled_from([110, 112, 114, 116, 118, 120, 122, 124]),
        fid=FIDS,
        new=FIDS,
        names=st.lists(NAMES, max_size=3),
        mode=st.integers(0, 3),
    )
    def request(self, who: int, kind: int, fid: int, new: int, names: list[str], mode: int) -> None:
        body = {
            110: struct.pack("<IIH", fid, new, len(names)) + b"".join(map(ninep.text, names)),
            112: struct.pack("<IB", fid, mode),
            114: struct.pack("<I", fid) + ninep.text("".join(names[:1])) + struct.pack("<IB", 0x80000000, 0),
            116: struct.pack("<IQI", fid, 0, 500),
            118: struct.pack("<IQI", fid, 0, len(SPEC)) + SPEC.encode(),
        }.get(kind, struct.pack("<I", fid))
        with contextlib.suppress(Problem):
            self.clients[who].ask(kind, body)

    @invariant()
    def nothing_is_published_that_is_not_there(self) -> None:
        if hasattr(self, "ports"):
            listed = [e.spec for e in self.ports.tree.entries() if e.spec]
            assert sorted(listed) == sorted(self.ports.open)

    def teardown(self) -> None:
        if hasattr(self, "ports"):
            for client in self.clients:
                client.session.close()
            for entry in self.ports.tree.entries():  # published by nobody who is left: freed by name only
                assert entry.result
            self.ports.tree.close()
            assert self.ports.open == []


AnyClient.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestAnyClient = AnyClient.TestCase
