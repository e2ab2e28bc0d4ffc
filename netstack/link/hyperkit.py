"""The handshake of VPNKit's Ethernet protocol, sans-IO: both sides, and the table of who has which address.

On a stream socket the client (HyperKit, rootlesskit, vpnkit-tap-vsockd, our relay) and the server (VPNKit, we) speak::

    client  INIT 49      magic "VMN3T" · version u32 · commit 40 bytes
    server  INIT 49
    client  COMMAND 41   1 Ethernet: uuid 36 · zero        8 preferred address: uuid 36 · address u32
    server  RESPONSE 258 1 Vif: mtu u16 · packet u16 · MAC 6        2 Disconnect: length u8 · text
    both    frames, each behind a u16 with its length (link/stream)

All integers are little-endian, also the address; lengths are bytes and fixed. What lies behind the last field is zero.
The commit is for information only. Our relay asks there for frames with offload metadata, and our server
agrees there; with anybody else's, both speak as VPNKit does.
"""

from __future__ import annotations

import re
import struct
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Protocol

from netstack.errors import NetstackError

__all__ = [
    "ClientHandshake",
    "Command",
    "Disconnect",
    "HandshakeError",
    "Init",
    "ServerHandshake",
    "UuidTable",
    "Vif",
    "parse_response",
]

MAGIC = b"VMN3T"
VERSION = 22
INIT_BYTES, COMMAND_BYTES, RESPONSE_BYTES = 49, 41, 258
ETHERNET, PREFERRED = 1, 8
VIF, DISCONNECT = 1, 2
PACKET_MARGIN = 50  # max_packet_size is the MTU and this much
COMMIT = b"0123456789" * 4  # what VPNKit itself sends; nobody reads it
#: Instead of that: we are a relay that would rather send frames with offload metadata (link/stream, FRAMING_OFFLOAD),
#: and: we are a serve that agrees. To everybody else they are commits like any other.
ASKS_OFFLOAD = b"netstack relay: offload 1".ljust(40, b"\0")
GIVES_OFFLOAD = b"netstack serve: offload 1".ljust(40, b"\0")
NO_UUID = bytes(36)  # the server makes one up

_INIT = struct.Struct("<5sI40s")
_COMMAND = struct.Struct("<B36sI")
_VIF = struct.Struct("<BHH6s")
_UUID = re.compile(rb"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

OTHER_ADDRESS = "UUID already assigned to a different IP than the IP requested by the client"
OUT_OF_RANGE = "Preferred IP address out of range."
ALREADY_USED = "Preferred IP address {} already used."
NONE_LEFT = "No IP addresses available."


class HandshakeError(NetstackError):
    """The other side does not speak this protocol: the connection is to be closed."""


@dataclass(frozen=True)
class Init:
    """INIT, 49 bytes: magic at 0, version at 5, commit at 9."""

    version: int = VERSION
    commit: bytes = COMMIT
    magic: bytes = MAGIC

    @classmethod
    def parse(cls, data: bytes) -> Init:
        """From exactly 49 bytes; nothing is judged.

        Raises:
            HandshakeError: another length.
        """
        if len(data) != INIT_BYTES:
            raise HandshakeError(f"INIT has {INIT_BYTES} bytes, not {len(data)}")
        magic, version, commit = _INIT.unpack(data)
        return cls(version, commit, magic)

    def build(self) -> bytes:
        """The 49 bytes."""
        return _INIT.pack(self.magic, self.version, self.commit)


@dataclass(frozen=True)
class Command:
    """COMMAND, 41 bytes: Ethernet, or with an address Preferred_ipv4. ``uuid`` None: the server makes one up."""

    uuid: uuid.UUID | None
    address: IPv4Address | None = None

    @classmethod
    def parse(cls, data: bytes) -> Command:
        """From exactly 41 bytes.

        Raises:
            HandshakeError: another length, an unknown command, or a UUID that is none.
        """
        if len(data) != COMMAND_BYTES:
            raise HandshakeError(f"a command has {COMMAND_BYTES} bytes, not {len(data)}")
        kind, text, address = _COMMAND.unpack(data)
        if kind not in (ETHERNET, PREFERRED):
            raise HandshakeError(f"command {kind} is unknown")
        if text == NO_UUID:
            who = None
        elif _UUID.fullmatch(text):
            who = uuid.UUID(text.decode())
        else:
            raise HandshakeError("the UUID is not one")
        return cls(who, IPv4Address(address) if kind == PREFERRED else None)

    def build(self) -> bytes:
        """The 41 bytes."""
        text = NO_UUID if self.uuid is None else str(self.uuid).encode()
        if self.address is None:
            return _COMMAND.pack(ETHERNET, text, 0)
        return _COMMAND.pack(PREFERRED, text, int(self.address))


@dataclass(frozen=True)
class Vif:
    """The server's consent, 258 bytes: MTU at 1, largest packet at 3, the client's MAC at 5."""

    mtu: int
    mac: bytes
    max_packet_size: int = 0  #: 0: the MTU and 50, as VPNKit says

    def build(self) -> bytes:
        """The 258 bytes."""
        size = self.max_packet_size or min(self.mtu + PACKET_MARGIN, 0xFFFF)
        return _VIF.pack(VIF, self.mtu, size, self.mac).ljust(RESPONSE_BYTES, b"\0")


@dataclass(frozen=True)
class Disconnect:
    """The server's refusal, 258 bytes: length of the text at 1, text at 2."""

    text: str

    def build(self) -> bytes:
        """The 258 bytes."""
        text = self.text.encode()[:255]
        return (bytes((DISCONNECT, len(text))) + text).ljust(RESPONSE_BYTES, b"\0")


def parse_response(data: bytes) -> Vif | Disconnect:
    """A server's answer from exactly 258 bytes.

    Raises:
        HandshakeError: another length, a type that is unknown, or a MAC that no machine can have.
    """
    if len(data) != RESPONSE_BYTES:
        raise HandshakeError(f"a response has {RESPONSE_BYTES} bytes, not {len(data)}")
    if data[0] == DISCONNECT:
        return Disconnect(data[2 : 2 + data[1]].decode(errors="replace"))
    if data[0] != VIF:
        raise HandshakeError(f"response {data[0]} is unknown")
    _, mtu, size, mac = _VIF.unpack_from(data)
    if mac[0] & 1 or not any(mac):
        raise HandshakeError(f"the server assigned {mac.hex(':')}, which is no machine's MAC")
    if not 68 <= mtu <= 65521:
        raise HandshakeError(f"the server announced an MTU of {mtu} bytes")
    return Vif(mtu, mac, size)


class ServerHandshake:
    """The server's side.

    Give it ``need`` bytes at a time with :meth:`receive` and send what it returns, until ``need`` is 0. Then
    ``result`` is the consent or refusal that was sent; after a refusal, and after an exception, close.

    Args:
        assign: what to answer a client.
    """

    def __init__(self, assign: Callable[[Command], Vif | Disconnect]) -> None:
        self._assign = assign
        self.need = INIT_BYTES
        self.command: Command | None = None
        self.result: Vif | Disconnect | None = None
        self.error: str | None = None  #: why to close although there is something to send
        self.offload = False  #: both sides are ours: frames with offload metadata follow

    def receive(self, data: bytes) -> bytes:
        """Takes exactly ``need`` bytes.

        Raises:
            HandshakeError: the connection is to be closed without a word.
        """
        if self.need == INIT_BYTES:
            init = Init.parse(data)
            version = init.version
            self.need = COMMAND_BYTES
            self.offload = init == Init(commit=ASKS_OFFLOAD)
            if version != VERSION:
                self.need = 0
                self.error = f"the client speaks version {version}: only {VERSION} is known"
            return Init(commit=GIVES_OFFLOAD if self.offload else COMMIT).build()
        if self.need != COMMAND_BYTES:
            raise HandshakeError("the handshake is over")
        self.command = Command.parse(data)
        self.need = 0
        self.result = self._assign(self.command)
        return self.result.build()


class ClientHandshake:
    """The client's side: send :meth:`begin`, then feed ``need`` bytes at a time until it is 0.

    ``vif`` is what was granted then.

    Args:
        who: None lets the server make one up.
        address: the one that is preferred.
        ask_offload: ask for frames with offload metadata; ``offload`` says whether they were agreed on.
    """

    def __init__(
        self, who: uuid.UUID | None = None, address: IPv4Address | None = None, ask_offload: bool = False
    ) -> None:
        self._command = Command(who, address)
        self._commit = ASKS_OFFLOAD if ask_offload else COMMIT
        self.need = INIT_BYTES
        self.vif: Vif | None = None
        self.offload = False

    def begin(self) -> bytes:
        """The first message."""
        return Init(commit=self._commit).build()

    def receive(self, data: bytes) -> bytes:
        """Takes exactly ``need`` bytes; what to send.

        Raises:
            HandshakeError: the server speaks something else, or refuses; the message says why.
        """
        if self.need == INIT_BYTES:
            init = Init.parse(data)
            if init.magic != MAGIC:
                raise HandshakeError(f"the server is not one of this protocol: it began with {init.magic!r}")
            if init.version != VERSION:
                raise HandshakeError(f"the server speaks version {init.version}: only {VERSION} is known")
            self.offload = self._commit == ASKS_OFFLOAD and init.commit == GIVES_OFFLOAD
            self.need = RESPONSE_BYTES
            return self._command.build()
        if self.need != RESPONSE_BYTES:
            raise HandshakeError("the handshake is over")
        response = parse_response(data)
        if isinstance(response, Disconnect):
            raise HandshakeError(f"the server refuses: {response.text}")
        self.vif = response
        self.need = 0
        return b""


class Addresses(Protocol):
    """Where the table gets addresses from."""

    def within(self, address: IPv4Address) -> bool:
        """Whether guests may be given this address at all."""

    def take(self, mac: bytes, address: IPv4Address | None) -> IPv4Address | None:
        """Ties this address (or any free one) to a MAC; None when that cannot be."""

    def give_back(self, mac: bytes) -> None:
        """The MAC's address is free again."""


@dataclass
class Entry:
    """What a UUID has. ``links`` counts its connections, of which there may be several."""

    address: IPv4Address
    mac: bytes
    links: int = 0


class UuidTable:
    """UUID to address and MAC, for the life of the process.

    A UUID that returns finds both again, also while an earlier connection of it is still open. When no address is
    left, the one of whoever has been away longest is given to the new client.
    """

    def __init__(self, addresses: Addresses, mtu: int) -> None:
        self._addresses = addresses
        self._mtu = mtu
        self._entries: OrderedDict[uuid.UUID, Entry] = OrderedDict()  # by time of the last connection's end
        self._macs = 0

    def __len__(self) -> int:
        return len(self._entries)

    def assign(self, command: Command) -> tuple[uuid.UUID, Entry | None, Vif | Disconnect]:
        """The answer to a client, and the entry that it is for."""
        who = command.uuid or uuid.uuid4()
        wanted = command.address
        entry = self._entries.get(who)
        if wanted is not None:
            if not self._addresses.within(wanted):
                return who, None, Disconnect(OUT_OF_RANGE)
            if entry is not None and entry.address != wanted:
                return who, None, Disconnect(OTHER_ADDRESS)
        if entry is None:
            mac = b"\x02\x50" + struct.pack(">I", self._macs + 1)
            address = self._addresses.take(mac, wanted)
            if address is None and wanted is None and self._evict():
                address = self._addresses.take(mac, None)
            if address is None:
                return who, None, Disconnect(NONE_LEFT if wanted is None else ALREADY_USED.format(wanted))
            self._macs += 1
            entry = self._entries[who] = Entry(address, mac)
        return who, entry, Vif(self._mtu, entry.mac)

    def connected(self, who: uuid.UUID) -> None:
        """A connection of this UUID has begun."""
        if who in self._entries:
            self._entries[who].links += 1

    def disconnected(self, who: uuid.UUID) -> None:
        """And one has ended."""
        if who in self._entries:
            self._entries[who].links -= 1
            self._entries.move_to_end(who)

    def _evict(self) -> bool:
        for who, entry in self._entries.items():
            if entry.links <= 0:
                del self._entries[who]
                self._addresses.give_back(entry.mac)
                return True
        return False
