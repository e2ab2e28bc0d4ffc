"""TCP frames in words, for tests of what joins and cuts them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << i for i in range(8))
DF, MF = 0x4000, 0x2000
TIMES = b"\x01\x01\x08\x0a\0\0\0\x01\0\0\0\x02"  #: two no-ops, timestamps
MSS = 1428
PLAIN = (0, 0, 0, 0, 0, 0)  #: the metadata of a frame that is none of offload


def ones_sum(data: bytes) -> int:
    data += bytes(len(data) & 1)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@dataclass(frozen=True)
class Segment:
    """A TCP frame in words."""

    payload: bytes = bytes(MSS)
    seq: int = 0
    v6: bool = False
    ack: int = 77
    flags: int = ACK
    window: int = 500
    options: bytes = TIMES
    tos: int = 0
    ttl: int = 64
    ident: int = 0
    fragment: int = DF
    port: int = 1000
    source: int = 1
    ip_options: bytes = b""
    wrong_ip: bool = False
    wrong_tcp: bool = False
    trailer: bytes = b""

    def frame(self) -> bytes:
        tcp = bytearray(
            struct.pack(
                ">HHIIBBHHH",
                *(self.port, 80, self.seq % 2**32, self.ack, (20 + len(self.options)) // 4 << 4, self.flags),
                *(self.window, 0, 0),
            )
            + self.options
        )
        length = len(tcp) + len(self.payload)
        if self.v6:
            hosts = bytes([0xFD, *bytes(14), self.source]) + bytes([0xFD, *bytes(14), 9])
            ip = struct.pack(">IHBB", 6 << 28 | self.tos << 20, length, 6, self.ttl) + hosts
            pseudo = hosts + struct.pack(">II", length, 6)
        else:
            hosts = bytes([10, 0, 0, self.source, 10, 0, 0, 9])
            words = 5 + len(self.ip_options) // 4
            head = bytearray(
                struct.pack(">BBHHHBBH", 4 << 4 | words, self.tos, words * 4 + length, self.ident % 65536,
                            self.fragment, self.ttl, 6, 0) + hosts + self.ip_options
            )  # fmt: skip
            head[10:12] = (~ones_sum(head) & 0xFFFF ^ self.wrong_ip).to_bytes(2, "big")
            ip, pseudo = bytes(head), hosts + struct.pack(">HH", 6, length)
        tcp[16:18] = (~ones_sum(pseudo + tcp + self.payload) & 0xFFFF ^ self.wrong_tcp).to_bytes(2, "big")
        ether = b"\2\0\0\0\0\2" + bytes([2, 0, 0, 0, 0, self.source])
        return ether + (b"\x86\xdd" if self.v6 else b"\x08\0") + ip + tcp + self.payload + self.trailer
