# What the translation has decided about a frame, for those who record it. Inline: there is no module behind this file.
from libc.stdint cimport uint8_t, uint16_t

cdef enum decision_kind:
    DECIDED_NOTHING = 0
    # about a frame of a guest
    DECIDED_TCP = 1             # a new connection: the host connects to address and port
    DECIDED_CONTROL = 2         # a new connection: the control plane gives its host side (a proxy, a program)
    DECIDED_UDP = 3             # a new mapping: from the host's port `local` to address and port
    DECIDED_PING = 4            # a new mapping of echo requests
    # about a frame to a guest
    DECIDED_FAILED = 5          # the host's connection has failed, or ended, with `error`
    DECIDED_PUBLISHED = 6       # a client of a published port, at address and port
    DECIDED_DIALED = 7          # a program on the host has dialled

ctypedef struct decision_t:
    uint8_t kind                # decision_kind
    uint8_t diverted            # the address is not the one the guest asked for: a forward, or the host's loopback
    uint16_t port
    uint16_t local              # 0 = not known
    int error                   # errno
    uint8_t address[16]         # IPv4 mapped into IPv6
