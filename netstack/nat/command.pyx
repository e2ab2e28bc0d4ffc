"""The control plane's calls, each to the file that knows."""
from libc.errno cimport EINVAL
from libc.stdint cimport int64_t, uint32_t, uint64_t

from netstack.nat.context cimport divert_prefix_t, nat_t
from netstack.nat.divert cimport divert_add, divert_prefixes, divert_remove, diversion
from netstack.nat.forward cimport (
    dial_new, forward_add, forward_dial, forward_new, forward_remove, forward_retarget,
)
from netstack.nat.ping_guest cimport ping_guest, ping_new
from netstack.nat.tcp_host cimport tcp_host_replace


cdef int64_t nat_command(nat_t *nat, int kind, void *arg, int64_t number, uint64_t now_ns) noexcept nogil:
    if kind == COMMAND_FORWARD:
        return forward_add(nat, <const forward_new *>arg)
    if kind == COMMAND_UNFORWARD:
        return forward_remove(nat, <uint64_t>number)
    if kind == COMMAND_RETARGET:
        forward_retarget(nat, (<retarget_arg *>arg).rule, (<retarget_arg *>arg).guest)
        return 0
    if kind == COMMAND_DIAL:
        return forward_dial(nat, <const dial_new *>arg, now_ns)
    if kind == COMMAND_PING:
        return ping_guest(nat, <ping_new *>arg, now_ns)
    if kind == COMMAND_DIVERT:
        return divert_add(nat, <const diversion *>arg)
    if kind == COMMAND_UNDIVERT:
        return divert_remove(nat, <const diversion *>arg)
    if kind == COMMAND_PREFIXES:
        divert_prefixes(nat, <const divert_prefix_t *>arg, <uint32_t>number)
        return 0
    if kind == COMMAND_REPLACE:
        return tcp_host_replace(nat, (<const uint64_t *>arg)[0], <int>number, now_ns)
    return -EINVAL
