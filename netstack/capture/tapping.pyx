"""The engine's side of a capture: a frame is copied into the queue with what is known of it, and no more.

It never waits and calls nothing that could. Where the queue is full the record is lost, and counted.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from netstack.capture.blocks cimport PCAP_MAX_SNAPLEN, interface_block
from netstack.capture.filter cimport bpf_run
from netstack.capture.recording cimport (
    DIRECT, ENDED_FULL, HEAD_ROOM, RECORDER_QUEUE, RECORD_ANSWER, RECORD_FRAME, RECORD_GONE, RECORD_LINK, RECORD_PAD,
    RECORD_STOP, TAIL_ROOM, data_of, gather, port_counts, rec_count, rec_fence, rec_load, rec_store, recorder_t,
)
from netstack.capture.tap cimport record_t, tap_link, tap_t
from netstack.host.sockets cimport iovec, wake_signal
from netstack.host.sync cimport flag_load, flag_store
from netstack.storage.counters cimport PCAP_LOST
from netstack.storage.decision cimport decision_t
from netstack.storage.frame cimport frame_meta
from netstack.wire.be cimport be16

cdef enum:
    KEPT = 65536                # bytes of the queue that frames leave to the other records
    ANSWER = 1472               # bytes of a DNS message that is looked at
    ETHERNET = 14


cdef record_t *reserve(recorder_t *r, uint32_t length, uint32_t keep) noexcept nogil:
    """Room for a record and length bytes behind it, in one piece, if the queue has it and `keep` bytes more."""
    cdef uint32_t need = (HEAD_ROOM + length + 15) & ~<uint32_t>15
    cdef uint32_t at = <uint32_t>(r.tail & (RECORDER_QUEUE - 1))
    cdef uint32_t rest = RECORDER_QUEUE - at
    cdef uint64_t whole = need if need <= rest else <uint64_t>need + rest
    cdef record_t *record
    if r.tail + whole + keep - r.head_seen > RECORDER_QUEUE:
        r.head_seen = rec_load(&r.head)
        if r.tail + whole + keep - r.head_seen > RECORDER_QUEUE:
            return NULL
    if need > rest:
        record = <record_t *>(r.queue + at)
        record.size = rest
        record.kind = RECORD_PAD
        r.tail += rest
        at = 0
    record = <record_t *>(r.queue + at)
    memset(record, 0, sizeof(record_t))
    record.size = need
    r.tail += need
    return record


cdef void tap_lost(recorder_t *r, int port) noexcept nogil:
    rec_count(&r.ports[port].lost)
    rec_count(&r.queue_lost)
    r.tap.counters[<int>PCAP_LOST] += 1
    r.lost_run += 1


cdef bint wanted(recorder_t *r, const iovec *iov, int n, uint32_t total) noexcept nogil:
    cdef uint32_t length
    if n == 1:
        return bpf_run(r.program, <const uint8_t *>iov[0].iov_base, total, total) != 0
    length = gather(r.scratch, iov, n, 0, r.reach if r.reach < total else total)
    return bpf_run(r.program, r.scratch, length, total) != 0


cdef void keep_answer(recorder_t *r, const iovec *iov, int n, uint32_t total, uint64_t time_ns) noexcept nogil:
    """A DNS message to a guest is passed to the writer for its names, whatever the filter says of its frame."""
    cdef const uint8_t *p = <const uint8_t *>iov[0].iov_base
    cdef uint32_t l4
    cdef record_t *record
    if iov[0].iov_len < ETHERNET + 28 or total > ETHERNET + 60 + 8 + ANSWER or p[12] != 8 or p[13] != 0 or \
            p[ETHERNET + 9] != 17:
        return
    l4 = ETHERNET + (p[ETHERNET] & 15) * 4
    if iov[0].iov_len < l4 + 8 or be16(p + l4) != 53 or be16(p + ETHERNET + 6) & 0x3fff:
        return
    record = reserve(r, total - l4 - 8, 0)
    if record == NULL:
        return
    record.kind = RECORD_ANSWER
    record.time_ns = time_ns
    record.captured = gather(data_of(record), iov, n, l4 + 8, total - l4 - 8)


cdef record_t *tap_frame(tap_t *tap, int port, bint outbound, uint64_t time_ns, const frame_meta *meta,
                         const iovec *iov, int n) noexcept nogil:
    cdef recorder_t *r = <recorder_t *>tap
    cdef uint32_t total = 0, captured
    cdef record_t *record
    cdef int i
    cdef int ended = flag_load(&r.ended)
    if not outbound:
        r.open = 1
    if ended == ENDED_FULL:
        return NULL
    rec_count(&r.ports[port].received)
    for i in range(n):
        total += <uint32_t>iov[i].iov_len
    if not ended and outbound:
        keep_answer(r, iov, n, total, time_ns)
    if r.program != NULL and not wanted(r, iov, n, total):
        return NULL
    rec_count(&r.ports[port].accepted)
    if ended or not tap.known[port]:
        tap_lost(r, port)
        return NULL
    captured = total if r.wire_frames or total < r.snaplen else r.snaplen
    if captured > PCAP_MAX_SNAPLEN:
        captured = PCAP_MAX_SNAPLEN
    record = reserve(r, captured + (TAIL_ROOM if captured >= DIRECT else 0), KEPT)
    if record == NULL:
        tap_lost(r, port)
        return NULL
    record.kind = RECORD_FRAME
    record.outbound = outbound
    record.port = <uint16_t>port
    record.time_ns = time_ns
    record.length = total
    record.captured = captured
    record.lost = r.lost_run
    r.lost_run = 0
    record.meta = meta[0]
    gather(data_of(record), iov, n, 0, captured)
    return record


cdef void tap_look(tap_t *tap) noexcept nogil:
    cdef recorder_t *r = <recorder_t *>tap
    cdef int i
    for i in range(r.n_watched):
        r.seen[i] = tap.counters[r.watched[i]]


cdef void tap_judge(tap_t *tap, record_t *frame, const decision_t *decided) noexcept nogil:
    cdef recorder_t *r = <recorder_t *>tap
    cdef int i, n = 0
    for i in range(r.n_watched):
        if r.seen[i] != tap.counters[r.watched[i]]:
            r.seen[i] = tap.counters[r.watched[i]]
            if frame != NULL and n < 2:
                frame.counters[n] = r.watched[i] + 1
                n += 1
    if frame != NULL:
        frame.decision = decided[0]
    r.open = 0
    rec_store(&r.published, r.tail)


cdef void tap_settle(tap_t *tap) noexcept nogil:
    cdef recorder_t *r = <recorder_t *>tap
    if not r.open:
        rec_store(&r.published, r.tail)


cdef void tap_describe(tap_t *tap, const tap_link *link, uint64_t time_ns) noexcept nogil:
    cdef recorder_t *r = <recorder_t *>tap
    cdef record_t *record = reserve(r, sizeof(interface_block), 0)
    cdef interface_block *block
    cdef int i
    if record == NULL:
        return                          # tried again with the next frame
    record.kind = RECORD_LINK
    record.port = <uint16_t>link.port
    record.time_ns = time_ns
    block = <interface_block *>data_of(record)
    memset(block, 0, sizeof(interface_block))
    for i in range(63):
        if link.name[i] == 0:
            break
        block.name[i] = link.name[i]
    block.has_mac = link.has_mac
    memcpy(block.mac, link.mac, 6)
    block.address = link.address
    block.netmask = link.netmask
    block.time_ns = time_ns
    tap.known[link.port] = 1


cdef void tap_gone(tap_t *tap, int port, uint64_t time_ns) noexcept nogil:
    cdef recorder_t *r = <recorder_t *>tap
    cdef record_t *record
    if tap.known[port]:
        record = reserve(r, sizeof(port_counts), 0)
        if record != NULL:
            record.kind = RECORD_GONE
            record.port = <uint16_t>port
            record.time_ns = time_ns
            memcpy(data_of(record), &r.ports[port], sizeof(port_counts))
    tap.known[port] = 0
    memset(&r.ports[port], 0, sizeof(port_counts))


cdef bint tap_turn(tap_t *tap) noexcept nogil:
    cdef recorder_t *r = <recorder_t *>tap
    cdef uint64_t lost = rec_load(&r.writer_lost)
    cdef bint news = False
    tap.counters[<int>PCAP_LOST] += lost - r.writer_lost_seen
    r.writer_lost_seen = lost
    rec_store(&r.published, r.tail)
    rec_fence()
    if flag_load(&r.sleeping):
        flag_store(&r.sleeping, 0)
        wake_signal(r.wake_write)
    if r.lost_run and not r.told_lost:
        r.told_lost = 1
        news = True
    if flag_load(&r.ended) and not r.told_end:
        r.told_end = 1
        news = True
    return news


cdef void tap_stop(tap_t *tap, uint64_t time_ns) noexcept nogil:
    cdef recorder_t *r = <recorder_t *>tap
    cdef record_t *record = reserve(r, 0, 0)
    if record != NULL:
        record.kind = RECORD_STOP
        record.time_ns = time_ns
    tap_turn(tap)


cdef void tap_fill(tap_t *tap) noexcept nogil:
    tap.describe = tap_describe
    tap.gone = tap_gone
    tap.frame = tap_frame
    tap.look = tap_look
    tap.judge = tap_judge
    tap.settle = tap_settle
    tap.turn = tap_turn
    tap.stop = tap_stop
