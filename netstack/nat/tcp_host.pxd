# The host's side of a TCP flow: a descriptor that comes, is exchanged for another, fails, and goes.
from libc.stdint cimport uint8_t, uint64_t
from netstack.nat.context cimport nat_t
from netstack.nat.flow cimport tcp_flow

# A stream descriptor (owned from here on), connected (HOST_OPEN) or about to be (HOST_CONNECTING).
cdef void tcp_host_adopt(nat_t *nat, tcp_flow *flow, int fd, uint8_t state, uint64_t now_ns) noexcept nogil
# The connection stands: the guest's SYN may be answered.
cdef void tcp_host_open(nat_t *nat, tcp_flow *flow, uint64_t now_ns) noexcept nogil
# The host could not connect (errno): the guest hears the same.
cdef void tcp_host_failed(nat_t *nat, tcp_flow *flow, int error, uint64_t now_ns) noexcept nogil
# Writing failed.
cdef void tcp_host_refuses(tcp_flow *flow) noexcept nogil
# The descriptor goes, with a reset for its peer where abort is set.
cdef void tcp_host_close(nat_t *nat, tcp_flow *flow, bint abort) noexcept nogil
# The control plane's answer to MAIL_PENDING_FLOW: a connected stream descriptor (owned from here on), or fd < 0
# as -errno. -1 when the flow is gone (the caller closes the descriptor).
cdef int tcp_host_attach(nat_t *nat, uint64_t id, int fd, uint64_t now_ns) noexcept nogil
# Exchanges the descriptor of an open flow for another one (owned from here on); fd < 0 resets the guest at once. No
# byte is lost or changes places: from now on nothing more is sent into the old one, whose peer reads to an end of file,
# and what that peer has sent goes to the guest up to the end of file that it answers with; then tcp_host_exchange. -1
# when there is no open flow of this id, or it is being exchanged already (the caller closes the descriptor).
cdef int tcp_host_replace(nat_t *nat, uint64_t id, int fd, uint64_t now_ns) noexcept nogil
# The old descriptor has come to its end of file: the one that waits takes its place.
cdef void tcp_host_exchange(nat_t *nat, tcp_flow *flow) noexcept nogil
