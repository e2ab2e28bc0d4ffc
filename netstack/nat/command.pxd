# What the control plane can have the NAT do between two bursts, beyond the engine's own calls.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from netstack.nat.context cimport divert_prefix_t, nat_t

cdef enum command:
    COMMAND_FIRST = 1000
    COMMAND_FORWARD = 1000      # forward_new
    COMMAND_UNFORWARD = 1001    # number: the rule
    COMMAND_RETARGET = 1002     # retarget_arg
    COMMAND_DIAL = 1003         # dial_new
    COMMAND_PING = 1004         # ping_new
    COMMAND_DIVERT = 1005       # diversion
    COMMAND_UNDIVERT = 1006     # diversion
    COMMAND_PREFIXES = 1007     # divert_prefix_t[number]
    COMMAND_REPLACE = 1008      # uint64_t: a flow's id; number: the descriptor, or -errno
    COMMAND_DNS_PLAN = 1009     # dns_plan
    COMMAND_DNS_ANSWER = 1010   # dns_from_control
    COMMAND_DNS_CACHED = 1011   # dns_cached: the bytes of the answer, or 0
    COMMAND_DNS_KEEP = 1012     # dns_keep
    COMMAND_PATHS = 1013        # the host's routes have changed
    COMMAND_ADDRESS_GONE = 1014  # addr_t that the host has no more: how many connections had it
    COMMAND_HIDE = 1015         # number: a TCP port of the loopback, + 65536 to show it again

ctypedef struct retarget_arg:
    uint64_t rule
    uint32_t guest

# >= 0, or -errno.
cdef int64_t nat_command(nat_t *nat, int kind, void *arg, int64_t number, uint64_t now_ns) noexcept nogil
