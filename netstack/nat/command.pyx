"""The control plane's calls, each to the file that knows."""
from libc.errno cimport EINVAL
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from netstack.nat.context cimport divert_prefix_t, nat_t
from netstack.nat.dns_cache cimport dns_cache_get, dns_cache_put
from netstack.nat.dns_flow cimport (
    dns_cached, dns_from_control, dns_from_control_arrives, dns_keep, dns_plan_set,
)
from netstack.nat.dns_servers cimport dns_plan
from netstack.nat.divert cimport divert_add, divert_prefixes, divert_remove, diversion
from netstack.nat.forward cimport (
    dial_new, forward_add, forward_dial, forward_new, forward_remove, forward_retarget,
)
from netstack.nat.paths cimport paths_address_gone, paths_changed
from netstack.nat.ping_guest cimport ping_guest, ping_new
from netstack.storage.counters cimport DNS_CACHED, DNS_STALE, count
from netstack.nat.policy cimport policy_hide
from netstack.nat.tcp_host cimport tcp_host_replace
from netstack.wire.addr cimport addr_t


cdef int64_t nat_command(nat_t *nat, int kind, void *arg, int64_t number, uint64_t now_ns) noexcept nogil:
    cdef const dns_keep *keep
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
    if kind == COMMAND_DNS_PLAN:
        dns_plan_set(nat, <const dns_plan *>arg, now_ns)
        return 0
    if kind == COMMAND_DNS_ANSWER:
        dns_from_control_arrives(nat, <const dns_from_control *>arg, now_ns)
        return 0
    if kind == COMMAND_DNS_CACHED:
        return dns_from_cache(nat, <const dns_cached *>arg, now_ns)
    if kind == COMMAND_DNS_KEEP:
        keep = <const dns_keep *>arg
        dns_cache_put(nat.cache, keep.query, keep.length, keep.reply, keep.reply_length, now_ns)
        return 0
    if kind == COMMAND_PATHS:
        paths_changed(nat, now_ns)
        return 0
    if kind == COMMAND_ADDRESS_GONE:
        return paths_address_gone(nat, <const addr_t *>arg, now_ns)
    if kind == COMMAND_HIDE:
        policy_hide(nat, <uint16_t>number, True, number < 65536)
        return 0
    return -EINVAL


cdef int64_t dns_from_cache(nat_t *nat, const dns_cached *asked, uint64_t now_ns) noexcept nogil:
    cdef int n = dns_cache_get(nat.cache, asked.query, asked.length, asked.stale, now_ns, asked.out, asked.room)
    if n > 0:
        count(nat.counters, DNS_STALE if asked.stale else DNS_CACHED)
    return n
