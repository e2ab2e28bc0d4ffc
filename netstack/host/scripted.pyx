"""A host that exists in memory: sockets without a system behind them.

The engine is given descriptors from ``SCRIPTED_FD`` on. ``netstack.host.sockets`` and ``netstack.host.poller`` send
what is done with them here, and the script's owner hears of it by its calls; what peers do, the owner makes happen
with ``scripted_say``, ``scripted_give`` and their like. Nothing waits and nothing is random: the same calls give the
same results.

As descriptors are numbers, the scripts that there are stand in one table for the process, as the system's own do in
the kernel: at most sixteen, each used by one thread.
"""
from libc.errno cimport EAGAIN, EBADF, ECONNRESET, EMFILE, ENOMEM, ENOTCONN, EPIPE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

cdef extern from "<pthread.h>" nogil:
    """
    static pthread_mutex_t scripted_lock = PTHREAD_MUTEX_INITIALIZER;
    """
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_lock(pthread_mutex_t *m)
    int pthread_mutex_unlock(pthread_mutex_t *m)
    pthread_mutex_t scripted_lock

cdef enum:
    READ = 1                        # the poller's bits
    WRITE = 2
    ERROR = 4
    HUP = 8
    RDHUP = 16
    SCRIPTS = 16
    SLOT_BITS = 20                  # sockets of one script
    SOCKETS = 1 << 20
    WAITING = 64 << 20              # bytes of datagrams that may wait in one script

cdef scripted_t *scripts[16]


cdef scripted_t *scripted_new(const scripted_calls *calls, void *context) noexcept nogil:
    cdef scripted_t *s = <scripted_t *>calloc(1, sizeof(scripted_t))
    cdef int i
    if s == NULL:
        return NULL
    s.calls = calls[0]
    s.context = context
    pthread_mutex_lock(&scripted_lock)
    for i in range(SCRIPTS):
        if scripts[i] == NULL:
            scripts[i] = s
            s.slot = i
            break
    else:
        i = -1
    pthread_mutex_unlock(&scripted_lock)
    if i < 0:
        free(s)
        return NULL
    return s


cdef void scripted_free(scripted_t *s) noexcept nogil:
    cdef uint32_t i
    if s == NULL:
        return
    for i in range(s.n):
        drop_items(s, &s.sockets[i])
    pthread_mutex_lock(&scripted_lock)
    scripts[s.slot] = NULL
    pthread_mutex_unlock(&scripted_lock)
    free(s.sockets)
    free(s.free_list)
    free(s.ready)
    free(s)


cdef scripted_t *scripted_of(int fd) noexcept nogil:
    cdef int slot = (fd - SCRIPTED_FD) >> SLOT_BITS
    return scripts[slot] if 0 <= slot < SCRIPTS else NULL


cdef scripted_socket *socket_of(int fd, scripted_t **script) noexcept nogil:
    cdef scripted_t *s = scripted_of(fd)
    cdef uint32_t i = <uint32_t>(fd - SCRIPTED_FD) & (SOCKETS - 1)
    script[0] = s
    if s == NULL or i >= s.n or s.sockets[i].kind == SCRIPTED_FREE:
        return NULL
    return &s.sockets[i]


cdef inline uint32_t number_of(int fd) noexcept nogil:
    return <uint32_t>(fd - SCRIPTED_FD) & (SOCKETS - 1)


cdef void drop_items(scripted_t *s, scripted_socket *k) noexcept nogil:
    cdef scripted_item *item
    while k.first != NULL:
        item = k.first
        k.first = item.next
        s.waiting_bytes -= item.message.length
        free(item)
    while k.first_error != NULL:
        item = k.first_error
        k.first_error = item.next
        s.waiting_bytes -= item.error.payload_length
        free(item)
    k.last = NULL


# --- the owner's side

cdef int make(scripted_t *s, uint8_t kind) noexcept nogil:
    """The number of a new socket, or -errno."""
    cdef uint32_t i, room, generation
    cdef void *memory
    if s.free_count:
        s.free_count -= 1
        i = s.free_list[s.free_count]
    else:
        if s.n == s.room:
            room = s.room * 2 if s.room else 64
            if room > SOCKETS:
                return -EMFILE
            memory = realloc(s.sockets, room * sizeof(scripted_socket))
            if memory == NULL:
                return -ENOMEM
            s.sockets = <scripted_socket *>memory
            memory = realloc(s.free_list, room * sizeof(uint32_t))
            if memory == NULL:
                return -ENOMEM
            s.free_list = <uint32_t *>memory
            s.room = room
        i = s.n
        s.n += 1
        s.sockets[i].generation = 0
    generation = s.sockets[i].generation + 1
    memset(&s.sockets[i], 0, sizeof(scripted_socket))
    s.sockets[i].kind = kind
    s.sockets[i].generation = generation
    s.sockets[i].user = -1
    return <int>i


cdef void raise_events(scripted_t *s, uint32_t i, uint32_t events) noexcept nogil:
    """Edges: they are reported once."""
    cdef scripted_socket *k = &s.sockets[i]
    cdef void *memory
    cdef uint32_t room, j
    k.events |= events
    if k.queued or k.token == NULL:
        return
    if s.ready_n == s.ready_room:
        room = s.ready_room * 2 if s.ready_room else 64
        memory = malloc(room * sizeof(uint32_t))
        if memory == NULL:
            return
        for j in range(s.ready_n):
            (<uint32_t *>memory)[j] = s.ready[(s.ready_head + j) & (s.ready_room - 1)]
        free(s.ready)
        s.ready = <uint32_t *>memory
        s.ready_head = 0
        s.ready_room = room
    s.ready[(s.ready_head + s.ready_n) & (s.ready_room - 1)] = i
    s.ready_n += 1
    k.queued = 1


cdef bint scripted_next(scripted_t *s, void **token, uint32_t *events) noexcept nogil:
    cdef scripted_socket *k
    while s.ready_n:
        k = &s.sockets[s.ready[s.ready_head]]
        s.ready_head = (s.ready_head + 1) & (s.ready_room - 1)
        s.ready_n -= 1
        k.queued = 0
        if k.kind == SCRIPTED_FREE or k.token == NULL or k.events == 0:
            continue
        token[0] = k.token
        events[0] = k.events
        k.events = 0
        return True
    return False


cdef int scripted_stream(scripted_t *s) noexcept nogil:
    cdef int i = make(s, SCRIPTED_TCP)
    if i < 0:
        return i
    s.sockets[i].connected = 1
    return SCRIPTED_FD + (s.slot << SLOT_BITS) + i


cdef void scripted_connected(scripted_t *s, uint32_t i) noexcept nogil:
    if s.sockets[i].kind != SCRIPTED_TCP or not s.sockets[i].connecting:
        return
    s.sockets[i].connecting = 0
    s.sockets[i].connected = 1
    raise_events(s, i, WRITE)


cdef void scripted_refuse(scripted_t *s, uint32_t i, int error) noexcept nogil:
    if s.sockets[i].kind != SCRIPTED_TCP or not s.sockets[i].connecting:
        return
    s.sockets[i].connecting = 0
    s.sockets[i].error = error
    raise_events(s, i, WRITE | ERROR | HUP)


cdef void scripted_say(scripted_t *s, uint32_t i, uint64_t given) noexcept nogil:
    cdef scripted_socket *k = &s.sockets[i]
    if k.kind == SCRIPTED_TCP and given > k.given and not k.eof:
        k.given = given
        raise_events(s, i, READ)


cdef void scripted_end(scripted_t *s, uint32_t i) noexcept nogil:
    cdef scripted_socket *k = &s.sockets[i]
    if k.kind == SCRIPTED_TCP and not k.eof:
        k.eof = 1
        raise_events(s, i, READ | RDHUP)


cdef void scripted_reset(scripted_t *s, uint32_t i) noexcept nogil:
    cdef scripted_socket *k = &s.sockets[i]
    if k.kind != SCRIPTED_TCP or k.reset:
        return
    k.reset = 1
    k.error = ECONNRESET
    raise_events(s, i, READ | WRITE | ERROR | HUP | RDHUP)


cdef bint scripted_give(scripted_t *s, uint32_t i, const uint8_t *addr, uint16_t port, const uint8_t *data,
                        uint32_t length, uint8_t tos) noexcept nogil:
    cdef scripted_socket *k = &s.sockets[i]
    cdef scripted_item *item
    if k.kind != SCRIPTED_UDP and k.kind != SCRIPTED_PING or s.waiting_bytes + length > WAITING:
        return False
    item = <scripted_item *>calloc(1, sizeof(scripted_item) + length)
    if item == NULL:
        return False
    memcpy(item.bytes, data, length)
    item.message.data = item.bytes
    item.message.length = length
    item.message.tos = tos
    item.message.port = port
    memcpy(item.message.addr, addr, 16)
    s.waiting_bytes += length
    if k.last != NULL:
        k.last.next = item
    else:
        k.first = item
    k.last = item
    raise_events(s, i, READ)
    return True


cdef bint scripted_fail(scripted_t *s, uint32_t i, const sock_error *error) noexcept nogil:
    cdef scripted_socket *k = &s.sockets[i]
    cdef scripted_item *item
    cdef scripted_item **last
    if k.kind != SCRIPTED_UDP and k.kind != SCRIPTED_PING or s.waiting_bytes + error.payload_length > WAITING:
        return False
    item = <scripted_item *>calloc(1, sizeof(scripted_item) + error.payload_length)
    if item == NULL:
        return False
    item.is_error = True
    item.error = error[0]
    memcpy(item.bytes, error.payload, error.payload_length)
    s.waiting_bytes += error.payload_length
    last = &k.first_error
    while last[0] != NULL:
        last = &last[0].next
    last[0] = item
    raise_events(s, i, ERROR)
    return True


# --- the engine's side

cdef int scripted_tcp_connect(void *script, const uint8_t *addr, uint16_t port) noexcept nogil:
    cdef scripted_t *s = <scripted_t *>script
    cdef int i = make(s, SCRIPTED_TCP)
    if i < 0:
        return i
    s.sockets[i].connecting = 1
    memcpy(s.sockets[i].addr, addr, 16)
    s.sockets[i].port = port
    s.calls.connect(s.context, i, addr, port)
    return SCRIPTED_FD + (s.slot << SLOT_BITS) + i


cdef int scripted_open(void *script, uint8_t kind, uint16_t *ident) noexcept nogil:
    cdef scripted_t *s = <scripted_t *>script
    cdef int i = make(s, kind)
    if i < 0:
        return i
    if ident != NULL:
        ident[0] = <uint16_t>(i + 1)
    return SCRIPTED_FD + (s.slot << SLOT_BITS) + i


cdef int scripted_error_of(int fd) noexcept nogil:
    cdef scripted_t *s
    cdef scripted_socket *k = socket_of(fd, &s)
    cdef int error = EBADF
    if k != NULL:
        error = k.error
        k.error = 0
    return error


cdef int scripted_set_abort(int fd) noexcept nogil:
    cdef scripted_t *s
    cdef scripted_socket *k = socket_of(fd, &s)
    if k == NULL:
        return -EBADF
    k.abort = 1
    return 0


cdef int scripted_shutdown_write(int fd) noexcept nogil:
    cdef scripted_t *s
    cdef scripted_socket *k = socket_of(fd, &s)
    if k == NULL:
        return -EBADF
    s.calls.shut(s.context, number_of(fd))
    return 0


cdef int scripted_close(int fd) noexcept nogil:
    cdef scripted_t *s
    cdef scripted_socket *k = socket_of(fd, &s)
    cdef uint32_t i = number_of(fd)
    if k == NULL:
        return -EBADF
    s.calls.closed(s.context, i, k.abort)
    k = &s.sockets[i]
    drop_items(s, k)
    k.kind = SCRIPTED_FREE
    k.token = NULL
    k.events = 0
    s.free_list[s.free_count] = i
    s.free_count += 1
    return 0


cdef ssize_t scripted_send(int fd, const void *data, size_t length) noexcept nogil:
    cdef iovec iov
    iov.iov_base = <void *>data
    iov.iov_len = length
    return scripted_sendv(fd, &iov, 1)


cdef ssize_t scripted_sendv(int fd, const iovec *iov, int n) noexcept nogil:
    cdef scripted_t *s
    cdef scripted_socket *k = socket_of(fd, &s)
    cdef ssize_t total = 0
    cdef int i
    if k == NULL:
        return -EBADF
    if k.reset:
        return -ECONNRESET if k.error else -EPIPE
    if not k.connected:
        return -ENOTCONN
    for i in range(n):
        s.calls.sent(s.context, number_of(fd), <const uint8_t *>iov[i].iov_base, iov[i].iov_len)
        total += <ssize_t>iov[i].iov_len
    return total


cdef ssize_t scripted_recvv(int fd, const iovec *iov, int n) noexcept nogil:
    cdef scripted_t *s
    cdef scripted_socket *k = socket_of(fd, &s)
    cdef ssize_t total = 0
    cdef uint64_t part
    cdef int i
    if k == NULL:
        return -EBADF
    if k.reset:
        if k.error == 0:
            return 0
        k.error = 0
        return -ECONNRESET
    for i in range(n):
        part = k.given - k.taken
        if part > iov[i].iov_len:
            part = iov[i].iov_len
        if part:
            memcpy(iov[i].iov_base, k.down + k.taken, part)
        k.taken += part
        total += <ssize_t>part
    if total == 0 and not k.eof:
        return -EAGAIN
    return total


cdef int scripted_udp_connect(int fd, const uint8_t *addr, uint16_t port) noexcept nogil:
    cdef scripted_t *s
    cdef scripted_socket *k = socket_of(fd, &s)
    if k == NULL:
        return -EBADF
    memcpy(k.addr, addr, 16)
    k.port = port
    return 0


cdef int scripted_udp_recv(int fd, udp_message *out, int n) noexcept nogil:
    cdef scripted_t *s
    cdef scripted_socket *k = socket_of(fd, &s)
    cdef scripted_item *item
    cdef uint32_t room
    cdef uint8_t *data
    cdef int i = 0
    if k == NULL:
        return -EBADF
    while i < n and k.first != NULL:
        item = k.first
        k.first = item.next
        if k.first == NULL:
            k.last = NULL
        s.waiting_bytes -= item.message.length
        data = out[i].data
        room = out[i].length
        out[i] = item.message
        out[i].data = data
        if out[i].length > room:
            out[i].length = room
        memcpy(data, item.bytes, out[i].length)
        free(item)
        i += 1
    return i if i else -EAGAIN


cdef int scripted_udp_send(int fd, const udp_message *messages, int n) noexcept nogil:
    cdef scripted_t *s
    cdef scripted_socket *k = socket_of(fd, &s)
    cdef udp_message whole
    cdef int i
    if k == NULL:
        return -EBADF
    for i in range(n):
        whole = messages[i]
        if whole.port == 0:
            memcpy(whole.addr, k.addr, 16)
            whole.port = k.port
        s.calls.datagram(s.context, number_of(fd), &whole)
    return n


cdef int scripted_ping_send(int fd, const uint8_t *addr, const uint8_t *icmp, uint32_t length,
                            uint8_t ttl) noexcept nogil:
    cdef scripted_t *s
    cdef scripted_socket *k = socket_of(fd, &s)
    if k == NULL:
        return -EBADF
    s.calls.echo(s.context, number_of(fd), addr, icmp, length, ttl)
    return <int>length


cdef int scripted_ping_recv(int fd, uint8_t *buf, uint32_t room, uint8_t *addr, uint8_t *ttl) noexcept nogil:
    cdef udp_message m
    cdef int n
    m.data = buf
    m.length = room
    n = scripted_udp_recv(fd, &m, 1)
    if n < 0:
        return n
    memcpy(addr, m.addr, 16)
    ttl[0] = 64
    return <int>m.length


cdef int scripted_recv_error(int fd, sock_error *out) noexcept nogil:
    cdef scripted_t *s
    cdef scripted_socket *k = socket_of(fd, &s)
    cdef scripted_item *item
    cdef uint8_t *payload = out.payload
    cdef uint32_t room = out.payload_length
    if k == NULL or k.first_error == NULL:
        return 0
    item = k.first_error
    k.first_error = item.next
    s.waiting_bytes -= item.error.payload_length
    out[0] = item.error
    out.payload = payload
    if out.payload_length > room:
        out.payload_length = room
    memcpy(payload, item.bytes, out.payload_length)
    free(item)
    return 1


cdef int scripted_watch(int fd, void *token) noexcept nogil:
    cdef scripted_t *s
    cdef scripted_socket *k = socket_of(fd, &s)
    if k == NULL:
        return -EBADF
    k.token = token
    if k.connected and k.kind == SCRIPTED_TCP:
        k.events |= WRITE
    if k.given > k.taken:
        k.events |= READ
    if k.events:
        raise_events(s, number_of(fd), 0)
    return 0


cdef void scripted_unwatch(int fd) noexcept nogil:
    cdef scripted_t *s
    cdef scripted_socket *k = socket_of(fd, &s)
    if k != NULL:
        k.token = NULL
