# A host that exists in memory: sockets without a system behind them. Whoever owns the script says what peers do, at
# the moment it chooses; the engine above sees descriptors like any others. For one thread, and deterministic.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from netstack.host.message cimport sock_error, udp_message
from netstack.host.posix cimport iovec

cdef enum:
    SCRIPTED_FD = 1 << 28           # descriptors from here on are scripted: no system gives such numbers

cdef enum scripted_kind:
    SCRIPTED_FREE = 0
    SCRIPTED_TCP = 1
    SCRIPTED_UDP = 2
    SCRIPTED_PING = 3

ctypedef struct scripted_item:      # a datagram, an echo message or an error that waits to be received
    scripted_item *next
    bint is_error
    udp_message message             # data: a copy
    sock_error error                # payload: a copy
    uint8_t bytes[1]

ctypedef struct scripted_socket:
    uint8_t kind                    # scripted_kind
    uint8_t connecting
    uint8_t connected
    uint8_t eof                     # the peer says no more than what is there
    uint8_t reset
    uint8_t abort                   # close is to be a reset
    uint8_t queued                  # stands in the ready list
    int error                       # SO_ERROR
    uint32_t generation             # of this number: a late event for its predecessor is told apart
    uint32_t events                 # poller bits not yet reported
    void *token
    int64_t user                    # the script owner's
    const uint8_t *down             # what the peer says in all, its owner's memory
    uint64_t taken, given           # bytes of it that were received, and that may be
    scripted_item *first
    scripted_item *last
    scripted_item *first_error
    uint8_t addr[16]                # the peer that was connected to
    uint16_t port

# What the stack does, as the script's owner hears of it. i is the socket's number.
ctypedef struct scripted_calls:
    void (*connect)(void *context, uint32_t i, const uint8_t *addr, uint16_t port) noexcept nogil
    void (*sent)(void *context, uint32_t i, const uint8_t *data, size_t length) noexcept nogil
    void (*shut)(void *context, uint32_t i) noexcept nogil
    void (*closed)(void *context, uint32_t i, bint abort) noexcept nogil
    void (*datagram)(void *context, uint32_t i, const udp_message *message) noexcept nogil
    void (*echo)(void *context, uint32_t i, const uint8_t *addr, const uint8_t *icmp, uint32_t length,
                 uint8_t ttl) noexcept nogil

ctypedef struct scripted_t:
    int slot
    scripted_calls calls
    void *context
    scripted_socket *sockets
    uint32_t n, room
    uint32_t free_count
    uint32_t *free_list
    uint32_t *ready                 # sockets with events, oldest first
    uint32_t ready_head, ready_n, ready_room
    uint64_t waiting_bytes          # of datagrams that nobody has received

# NULL: no memory, or sixteen scripts are in use.
cdef scripted_t *scripted_new(const scripted_calls *calls, void *context) noexcept nogil
cdef void scripted_free(scripted_t *s) noexcept nogil
cdef scripted_t *scripted_of(int fd) noexcept nogil

# What the owner makes happen.
cdef int scripted_stream(scripted_t *s) noexcept nogil                     # a connected stream's descriptor, or -errno
cdef void scripted_connected(scripted_t *s, uint32_t i) noexcept nogil
cdef void scripted_refuse(scripted_t *s, uint32_t i, int error) noexcept nogil
cdef void scripted_say(scripted_t *s, uint32_t i, uint64_t given) noexcept nogil
cdef void scripted_end(scripted_t *s, uint32_t i) noexcept nogil
cdef void scripted_reset(scripted_t *s, uint32_t i) noexcept nogil
# A datagram (or, for a ping socket, an ICMP message) comes from addr and port. False when too much waits already.
cdef bint scripted_give(scripted_t *s, uint32_t i, const uint8_t *addr, uint16_t port, const uint8_t *data,
                        uint32_t length, uint8_t tos) noexcept nogil
cdef bint scripted_fail(scripted_t *s, uint32_t i, const sock_error *error) noexcept nogil
# The poller's: the next socket with events, False when there is none.
cdef bint scripted_next(scripted_t *s, void **token, uint32_t *events) noexcept nogil

# What netstack.host.sockets and netstack.host.poller do with scripted descriptors: the functions of the same names.
cdef int scripted_tcp_connect(void *script, const uint8_t *addr, uint16_t port) noexcept nogil
cdef int scripted_open(void *script, uint8_t kind, uint16_t *ident) noexcept nogil
cdef int scripted_error_of(int fd) noexcept nogil
cdef int scripted_set_abort(int fd) noexcept nogil
cdef int scripted_shutdown_write(int fd) noexcept nogil
cdef int scripted_close(int fd) noexcept nogil
cdef ssize_t scripted_send(int fd, const void *data, size_t length) noexcept nogil
cdef ssize_t scripted_sendv(int fd, const iovec *iov, int n) noexcept nogil
cdef ssize_t scripted_recvv(int fd, const iovec *iov, int n) noexcept nogil
cdef int scripted_udp_connect(int fd, const uint8_t *addr, uint16_t port) noexcept nogil
cdef int scripted_udp_recv(int fd, udp_message *out, int n) noexcept nogil
cdef int scripted_udp_send(int fd, const udp_message *messages, int n) noexcept nogil
cdef int scripted_ping_send(int fd, const uint8_t *addr, const uint8_t *icmp, uint32_t length,
                            uint8_t ttl) noexcept nogil
cdef int scripted_ping_recv(int fd, uint8_t *buf, uint32_t room, uint8_t *addr, uint8_t *ttl) noexcept nogil
cdef int scripted_recv_error(int fd, sock_error *out) noexcept nogil
cdef int scripted_watch(int fd, void *token) noexcept nogil
cdef void scripted_unwatch(int fd) noexcept nogil
