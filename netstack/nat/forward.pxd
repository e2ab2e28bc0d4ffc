# Ports of the host published into guests, and connections that programs open to guests.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from netstack.nat.context cimport nat_t
from netstack.nat.flow cimport forward_t, socks_relay
from netstack.storage.wheel cimport wheel_timer

cdef enum:
    TIMER_FORWARD = 6

ctypedef struct forward_new:        # a socket to be served
    uint64_t rule
    int fd                          # listening, or UDP and bound; non-blocking
    uint8_t protocol                # 6 or 17
    uint8_t as_gateway
    uint16_t guest_port
    uint32_t guest                  # 0 = not known yet
    socks_relay *socks              # copied; NULL but for the datagrams of a SOCKS client

ctypedef struct dial_new:
    int fd                          # a connected stream
    uint32_t guest
    uint32_t src                    # 0 = the gateway
    uint16_t guest_port
    const uint8_t *to_host          # said first, when the guest has accepted (nat/opening)
    const uint8_t *to_guest
    uint32_t n_host                 # bytes; both 0: nothing is said, and a failure resets the descriptor
    uint32_t n_guest

# 0 or -errno; the descriptor belongs to the engine when it is 0.
cdef int forward_add(nat_t *nat, const forward_new *f) noexcept nogil
# Closes all sockets of a rule at once; connections that are open go on. How many there were.
cdef int forward_remove(nat_t *nat, uint64_t rule) noexcept nogil
# The guest that a rule means has (another) address.
cdef void forward_retarget(nat_t *nat, uint64_t rule, uint32_t guest) noexcept nogil
# A flow id, or -errno; then the descriptor is still the caller's. MAIL_DIALED follows.
cdef int64_t forward_dial(nat_t *nat, const dial_new *d, uint64_t now_ns) noexcept nogil
cdef void forward_host_event(nat_t *nat, forward_t *f, uint32_t events, uint64_t now_ns) noexcept nogil
cdef void forward_timer(nat_t *nat, wheel_timer *timer, uint64_t now_ns) noexcept nogil
cdef void forwards_reap(nat_t *nat) noexcept nogil
cdef void forwards_free_all(nat_t *nat) noexcept nogil
