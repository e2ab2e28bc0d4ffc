"""A capture under way, in two threads.

The engine's thread (`tapping`) copies each frame into a queue of fixed size (`RECORDER_QUEUE`), with what is known of
it, and does no more: it neither waits nor writes. Where the queue is full the record is lost, and counted: by
pcap_lost, for its interface (isb_ifdrop), and in a comment on the next record. The capture's own thread makes pcapng of
the records and writes it, and may wait for a disk or a reader as long as it takes. Neither takes the GIL.

The queue has one writer and one reader. A record is published when nothing about it can change any more: what became of
a guest's frame is known only when the stack has looked at it, and the answers to it lie behind it by then. The writer
wakes by itself for as long as there is traffic, so that the engine hardly ever pays for a wake-up.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset, strdup
from posix.unistd cimport close

import os
import struct

cimport cython
from cpython.pycapsule cimport PyCapsule_New

from netstack.capture.blocks cimport (
    BLOCK_ENHANCED, BLOCK_NAMES, ENHANCED_HEAD, INTERFACE_ROOM, NAMES_ROOM, OPTION_COMMENT, PCAP_MAX_SNAPLEN,
    SECTION_ROOM, STATISTICS_BLOCK, block_enhanced_head, block_interface, block_name, block_section, block_statistics,
    get32, interface_block, put32, put_option,
)
from netstack.capture.comments cimport (
    COMMENT, comment_counter, comment_counters, comment_decision, comment_lost, comment_super,
)
from netstack.capture.filter cimport Filter
from netstack.capture.learned cimport LEARNED_SLOTS, learned_free, learned_from, learned_name
from netstack.capture.sink cimport sink_close, sink_idle, sink_next, sink_open, sink_open_fd, sink_ring, sink_write
from netstack.capture.recording cimport (
    DIRECT, ENDED_ERROR, ENDED_FULL, RECORDER_QUEUE, RECORDER_STAGE, RECORD_ANSWER, RECORD_FRAME, RECORD_GONE,
    RECORD_LINK, RECORD_PAD, TAIL_ROOM, data_of, gather, port_counts, rec_fence, rec_load, rec_peek, rec_store,
    recorder_t,
)
from netstack.capture.tap cimport TAP_PORTS, record_t, tap_link, tap_t
from netstack.capture.tapping cimport tap_fill
from netstack.host.clock cimport clock_realtime_ns
from netstack.host.sockets cimport iovec, wake_open, wake_signal
from netstack.host.sync cimport (
    flag_load, flag_store, pthread_create, pthread_join, pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock,
    pthread_mutex_unlock, thread_setup,
)
from netstack.link.framing cimport framing_send
from netstack.link.link cimport LINK_OK, link_t
from netstack.storage.decision cimport decision_t
from netstack.storage.frame cimport CSUM_PARTIAL, GSO_ECN, frame_meta
from netstack.wire.checksum cimport csum_add, csum_finish, csum_store

cdef enum:
    NAP_MS = 2
    ETHERNET = 14
    EPB_FLAGS = 2


# --- the writer's side: what is staged

cdef void lose(recorder_t *r, const uint8_t *blocks, size_t at, size_t length) noexcept nogil:
    """Blocks from at on are not in the file."""
    while at < length:
        if get32(blocks + at) == BLOCK_ENHANCED:
            rec_store(&r.records, r.records - 1)
            rec_store(&r.writer_lost, r.writer_lost + 1)
        at += get32(blocks + at + 4)


cdef void end_by_itself(recorder_t *r, int how) noexcept nogil:
    if not flag_load(&r.ended):
        flag_store(&r.ended, how)
        if r.tap.engine_wake >= 0:
            wake_signal(r.tap.engine_wake)


cdef void write_out(recorder_t *r, const uint8_t *blocks, size_t length) noexcept nogil:
    cdef size_t kept = 0
    if length == 0:
        return
    if sink_write(&r.sink, blocks, length, &kept) < 0:
        lose(r, blocks, kept, length)
        end_by_itself(r, ENDED_ERROR)
    rec_store(&r.bytes, r.sink.total)


cdef void flush(recorder_t *r) noexcept nogil:
    write_out(r, r.stage, r.staged)
    r.staged = 0


cdef uint8_t *room(recorder_t *r, size_t length) noexcept nogil:
    """Where a block of at most length bytes is to be made; `staged_block` follows."""
    if r.staged + length > RECORDER_STAGE:
        flush(r)
    return r.stage + r.staged


cdef void staged_block(recorder_t *r, size_t length) noexcept nogil:
    r.staged += length
    r.file_written += length


# --- files, their interfaces and names

cdef void put_interface(recorder_t *r, int port) noexcept nogil:
    staged_block(r, block_interface(room(r, INTERFACE_ROOM), &r.links[port], r.snaplen, r.texts[3], r.texts[0],
                                    r.texts[1]))
    r.ids[port] = <int>r.n_ids
    r.n_ids += 1


cdef void put_statistics(recorder_t *r, int port, uint64_t time_ns, const port_counts *counts) noexcept nogil:
    staged_block(r, block_statistics(room(r, STATISTICS_BLOCK), <uint32_t>r.ids[port], &r.links[port], time_ns,
                                     rec_peek(&counts.received), rec_peek(&counts.lost), rec_peek(&counts.accepted)))


cdef void put_blocks(recorder_t *r, const char *blocks, size_t length) noexcept nogil:
    """Blocks that are made already."""
    cdef size_t at = 0, size
    while at < length:
        size = get32(<const uint8_t *>blocks + at + 4)
        memcpy(room(r, size), blocks + at, size)
        staged_block(r, size)
        at += size


cdef void put_own_names(recorder_t *r) noexcept nogil:
    """The gateway's names, unless there are more than fit well into a small file."""
    if fits(r, r.own_length * 2) and (not r.files or r.own_length < r.file_bytes // 4):
        put_blocks(r, r.own, r.own_length)


cdef void put_name(void *context, const learned_name *name) noexcept nogil:
    cdef recorder_t *r = <recorder_t *>context
    if r.ended or not fits(r, NAMES_ROOM):
        return
    staged_block(r, block_name(room(r, NAMES_ROOM), name.address, name.length, name.name, name.name_length))


cdef void begin_file(recorder_t *r) noexcept nogil:
    cdef int i
    r.file_written = 0
    r.file_records = 0
    r.n_ids = 0
    staged_block(r, block_section(room(r, SECTION_ROOM), r.texts[0], r.texts[1], r.texts[2]))
    for i in range(TAP_PORTS):
        if r.live[i]:
            put_interface(r, i)
    put_own_names(r)
    if r.learned.n:
        for i in range(LEARNED_SLOTS):
            if r.files and r.file_written > r.file_bytes // 2:
                break                   # a small file is for frames
            if r.learned.slots[i].length:
                put_name(r, &r.learned.slots[i])


cdef void end_file(recorder_t *r, uint64_t time_ns) noexcept nogil:
    cdef int i
    if r.sink.error:
        return
    for i in range(TAP_PORTS):
        if r.live[i]:
            put_statistics(r, i, time_ns, &r.ports[i])
    flush(r)


cdef size_t trailer(const recorder_t *r) noexcept nogil:
    """What the end of the file will take."""
    cdef size_t n = 0
    cdef int i
    for i in range(TAP_PORTS):
        n += r.live[i]
    return n * STATISTICS_BLOCK


cdef bint fits(recorder_t *r, size_t length) noexcept nogil:
    return not r.limit or r.sink.total + r.staged + length + trailer(r) <= r.limit


cdef bint make_room(recorder_t *r, size_t length, uint64_t time_ns) noexcept nogil:
    """Renews the file of a ring, or ends the capture at its limit (False), before a frame's block of length bytes."""
    if r.files and r.file_records and r.file_written + length + trailer(r) > r.file_bytes:
        end_file(r, time_ns)
        if sink_next(&r.sink, time_ns) < 0:
            end_by_itself(r, ENDED_ERROR)
            return False
        r.files_written = r.sink.number
        begin_file(r)
    if not fits(r, length):
        end_by_itself(r, ENDED_FULL)
        return False
    return True


# --- frames

cdef uint32_t direction(const record_t *record) noexcept nogil:
    """epb_flags: the way, and what kind of address it was sent to."""
    cdef uint32_t flags = 2 if record.outbound else 1
    cdef const uint8_t *frame = data_of(record)
    if record.captured < 6:
        return flags
    if not frame[0] & 1:
        return flags | 1 << 2
    if frame[0] & frame[1] & frame[2] & frame[3] & frame[4] & frame[5] == 0xff:
        return flags | 3 << 2
    return flags | 2 << 2


cdef uint8_t *put_comment(uint8_t *p, const char *text, int n) noexcept nogil:
    return put_option(p, OPTION_COMMENT, text, <uint32_t>n) if n else p


cdef uint32_t options_of(uint8_t *p, const record_t *record, bint first, bint whole) noexcept nogil:
    """The options of a frame's block (the `first` of its pieces, or the `whole`); how many bytes they take."""
    cdef uint8_t *q = p
    cdef char[COMMENT] text
    cdef uint32_t flags = direction(record)
    cdef int i
    if first:
        if record.lost:
            q = put_comment(q, text, comment_lost(text, record.lost))
        for i in range(2):
            if record.counters[i]:
                q = put_comment(q, text, comment_counter(text, record.counters[i] - 1))
        q = put_comment(q, text, comment_decision(text, &record.decision))
    if whole:
        q = put_comment(q, text, comment_super(text, &record.meta, record.length))
    q = put_option(q, EPB_FLAGS, &flags, 4)
    put32(q, 0)
    return <uint32_t>(q + 4 - p)


cdef bint admit(recorder_t *r, const record_t *record, uint32_t length) noexcept nogil:
    """Whether a frame's block of so many bytes may be written; else the frame is lost, or beyond the limit."""
    if not r.ended and make_room(r, length, record.time_ns):
        r.file_records += 1
        rec_store(&r.records, r.records + 1)
        return True
    if r.ended == ENDED_ERROR:
        rec_store(&r.writer_lost, r.writer_lost + 1)
    return False


cdef void put_frame(recorder_t *r, const record_t *record, const iovec *parts, int n, uint32_t captured,
                    uint32_t length, bint first, bint whole) noexcept nogil:
    """A block in the stage."""
    cdef uint8_t[TAIL_ROOM] options
    cdef uint32_t padded = (captured + 3) & ~<uint32_t>3
    cdef uint32_t tail = options_of(options, record, first, whole)
    cdef uint32_t size = ENHANCED_HEAD + padded + tail + 4
    cdef uint8_t *p
    if not admit(r, record, size):
        return
    p = room(r, size)
    block_enhanced_head(p, size, <uint32_t>r.ids[record.port], record.time_ns, captured, length)
    gather(p + ENHANCED_HEAD, parts, n, 0, captured)
    memset(p + ENHANCED_HEAD + captured, 0, padded - captured)
    memcpy(p + ENHANCED_HEAD + padded, options, tail)
    put32(p + size - 4, size)
    staged_block(r, size)


cdef void put_direct(recorder_t *r, record_t *record) noexcept nogil:
    """A large frame: its block is made around it in the queue, and written from there."""
    cdef uint8_t *frame = data_of(record)
    cdef uint8_t *p = frame - ENHANCED_HEAD
    cdef uint8_t[TAIL_ROOM] options
    cdef uint32_t padded = (record.captured + 3) & ~<uint32_t>3
    cdef uint32_t tail = options_of(options, record, True, True)
    cdef uint32_t size = ENHANCED_HEAD + padded + tail + 4
    if not admit(r, record, size):
        return
    flush(r)
    block_enhanced_head(p, size, <uint32_t>r.ids[record.port], record.time_ns, record.captured, record.length)
    memset(frame + record.captured, 0, padded - record.captured)
    memcpy(frame + padded, options, tail)
    put32(p + size - 4, size)
    r.file_written += size
    write_out(r, p, size)


cdef int take_piece(link_t *link, const frame_meta *meta, const iovec *iov, int n) noexcept nogil:
    """What framing makes of a super-frame comes here, piece by piece."""
    cdef recorder_t *r = <recorder_t *>link.impl
    cdef uint32_t length = 0
    cdef int i
    for i in range(n):
        length += <uint32_t>iov[i].iov_len
    put_frame(r, r.cut, iov, n, length if length < r.snaplen else r.snaplen, length, r.cut_index == 0, False)
    r.cut_index += 1
    return LINK_OK


cdef void complete(record_t *record) noexcept nogil:
    """The checksum that an offload was to fill in, where the frame is all there."""
    cdef uint32_t start = record.meta.csum_start, field = start + record.meta.csum_offset
    cdef uint8_t *frame = data_of(record)
    cdef uint16_t check
    if record.meta.csum != CSUM_PARTIAL or record.captured < record.length or field + 2 > record.captured or \
            start < ETHERNET:
        return
    check = csum_finish(csum_add(frame + start, record.captured - start, 0))
    if check == 0 and record.meta.csum_offset == 6:
        check = 0xffff                  # RFC 768
    csum_store(frame + field, check)


cdef void on_frame(recorder_t *r, record_t *record) noexcept nogil:
    cdef iovec whole
    cdef uint32_t sent = 0
    if not r.live[record.port]:         # its interface found the capture at its end
        admit(r, record, 0)
        return
    whole.iov_base = data_of(record)
    whole.iov_len = record.captured
    if r.wire_frames and (record.meta.csum == CSUM_PARTIAL or record.meta.gso_type & <uint8_t>~GSO_ECN):
        r.cut = record
        r.cut_index = 0
        if framing_send(&r.wire, &record.meta, &whole, 1, &sent) == LINK_OK or sent:
            return                      # else the metadata does not fit the frame: as it is
    complete(record)
    if record.captured >= DIRECT and record.captured <= r.snaplen:
        put_direct(r, record)
    else:
        put_frame(r, record, &whole, 1, record.captured if record.captured < r.snaplen else r.snaplen, record.length,
                  True, True)


# --- the writer's loop

cdef void on_link(recorder_t *r, const record_t *record) noexcept nogil:
    memcpy(&r.links[record.port], data_of(record), sizeof(interface_block))
    r.live[record.port] = 1
    if r.ended or not fits(r, INTERFACE_ROOM + STATISTICS_BLOCK):
        r.live[record.port] = 0
        end_by_itself(r, ENDED_FULL)
    else:
        put_interface(r, record.port)


cdef void on_gone(recorder_t *r, const record_t *record) noexcept nogil:
    if r.live[record.port] and not r.ended:
        put_statistics(r, record.port, record.time_ns, <const port_counts *>data_of(record))
    r.live[record.port] = 0


cdef void take_names(recorder_t *r) noexcept nogil:
    """The gateway's names, where they are new: they stand in front of what comes."""
    if not flag_load(&r.names_new):
        return
    pthread_mutex_lock(&r.names_lock)
    free(r.own)
    r.own = r.names
    r.own_length = r.names_length
    r.names = NULL
    flag_store(&r.names_new, 0)
    pthread_mutex_unlock(&r.names_lock)
    if not r.ended and r.file_written:
        put_own_names(r)


cdef bint work(recorder_t *r) noexcept nogil:
    """Writes what waits; False when there was nothing."""
    cdef uint64_t published = rec_load(&r.published)
    cdef uint64_t head = r.head
    cdef record_t *record
    cdef uint32_t size
    if head == published:
        return False
    take_names(r)
    while head != published:
        record = <record_t *>(r.queue + (head & (RECORDER_QUEUE - 1)))
        size = record.size
        if record.kind != RECORD_PAD:
            r.last_ns = record.time_ns
        if record.kind == RECORD_FRAME:
            on_frame(r, record)
        elif record.kind == RECORD_LINK:
            on_link(r, record)
        elif record.kind == RECORD_GONE:
            on_gone(r, record)
        elif record.kind == RECORD_ANSWER:
            learned_from(&r.learned, data_of(record), record.captured, r, put_name)
        head += size
        rec_store(&r.head, head)
    return True


cdef void *run(void *context) noexcept nogil:
    cdef recorder_t *r = <recorder_t *>context
    cdef bint idle = False
    thread_setup()
    take_names(r)
    begin_file(r)
    flush(r)
    while True:
        if work(r):
            idle = False
            continue
        flush(r)
        if flag_load(&r.stop):
            if work(r):
                continue
            break
        if not idle:                    # perhaps there is more at once: a nap costs the engine no wake-up
            idle = True
            if sink_idle(&r.sink, NAP_MS) < 0:
                end_by_itself(r, ENDED_ERROR)
            continue
        flag_store(&r.sleeping, 1)
        rec_fence()
        if rec_load(&r.published) == r.head and not flag_load(&r.stop) and sink_idle(&r.sink, -1) < 0:
            end_by_itself(r, ENDED_ERROR)
        flag_store(&r.sleeping, 0)
        idle = False
    end_file(r, r.last_ns)
    return NULL


# --- the face

cdef void release(recorder_t *r) noexcept nogil:
    """Gives everything back; the writer has ended, or has never been."""
    cdef int i
    sink_close(&r.sink)
    if r.wake_read >= 0:
        close(r.wake_read)
        close(r.wake_write)
    for i in range(4):
        free(r.texts[i])
    learned_free(&r.learned)
    pthread_mutex_destroy(&r.names_lock)
    free(r.names)
    free(r.own)
    free(r.program)
    free(r.scratch)
    free(r.stage)
    free(r.queue)
    free(r)


def name_blocks(names) -> bytes:
    """Name resolution blocks (draft-ietf-opsawg-pcapng section 4.5) for the addresses in a table of names."""
    out = []
    for name, records in names.items():
        for kind, address in records:
            if kind not in ("A", "AAAA") or name.startswith("*"):
                continue
            value = address + name.encode() + b"\0"
            record = struct.pack("=HH", 1 if kind == "A" else 2, len(value)) + value + bytes(3 - (len(value) + 3) % 4)
            length = struct.pack("=I", len(record) + 20)
            out.append(struct.pack("=I", BLOCK_NAMES) + length + record + bytes(8) + length)
    return b"".join(out)


@cython.final
@cython.auto_pickle(False)
cdef class Recorder:
    """A capture that is being written, by a thread of its own.

    Args:
        target: a path (created and truncated; ``-`` is standard output), or a descriptor, which is the recorder's
            from here on unless an exception comes.
        snaplen: bytes of a frame that are kept; 0 = as many as a capture may hold (262144).
        limit: bytes that the file may come to; 0 = no limit.
        ring: (files, bytes of each): the path's name is that of a ring of files; None = one file.
        filter: frames that it does not let pass are left out.
        wire_frames: super-frames are cut to what the wire would carry.
        section: hardware, system and application, as the file names them.

    Raises:
        OSError: it cannot be written.
    """

    cdef recorder_t *r
    cdef uint8_t started
    cdef dict ended             # how it was when it was closed

    def __cinit__(self, target, *, uint32_t snaplen=0, uint64_t limit=0, ring=None, Filter filter=None,
                  bint wire_frames=False, section=("", "", "")):
        cdef recorder_t *r = <recorder_t *>calloc(1, sizeof(recorder_t))
        cdef int rc, i
        cdef bytes text
        self.started = 0
        self.r = r
        if r == NULL:
            raise MemoryError
        r.sink.fd = r.wake_read = r.wake_write = r.tap.engine_wake = -1
        pthread_mutex_init(&r.names_lock, NULL)
        r.queue = <uint8_t *>malloc(RECORDER_QUEUE)
        r.stage = <uint8_t *>malloc(RECORDER_STAGE)
        r.scratch = <uint8_t *>malloc(PCAP_MAX_SNAPLEN)
        r.own = <char *>calloc(1, 1)
        if r.queue == NULL or r.stage == NULL or r.scratch == NULL or r.own == NULL:
            raise MemoryError
        r.snaplen = snaplen if 0 < snaplen <= PCAP_MAX_SNAPLEN else PCAP_MAX_SNAPLEN
        r.limit = limit
        r.wire_frames = wire_frames
        if filter is not None:
            r.program = filter.copy()
            r.reach = filter.reach
        for i, words in enumerate((*section, filter.expression if filter is not None else "")):
            text = words.encode()
            r.texts[i] = strdup(text)
            if r.texts[i] == NULL:
                raise MemoryError
        r.n_watched = comment_counters(r.watched)
        r.tap.counters = r.own_counters
        tap_fill(&r.tap)
        r.wire.impl = r
        r.wire.mtu = 65535
        r.wire.send = take_piece
        r.last_ns = clock_realtime_ns()
        rc = wake_open(&r.wake_read, &r.wake_write)
        if rc < 0:
            raise OSError(-rc, os.strerror(-rc))
        r.sink.wake_fd = r.wake_read
        r.sink.stop = &r.stop
        if isinstance(target, int):
            rc = sink_open_fd(&r.sink, target)
        elif ring is None:
            text = os.fsencode(target)
            rc = sink_open(&r.sink, text)
        else:
            stem, suffix = os.path.splitext(os.fsencode(target))
            r.files, r.file_bytes = ring
            rc = sink_ring(&r.sink, stem, suffix, r.files)
            rc = sink_next(&r.sink, r.last_ns) if rc == 0 else rc
            r.files_written = 1
        if rc == 0:
            rc = -pthread_create(&r.thread, NULL, run, r)
        if rc < 0:
            if isinstance(target, int):
                r.sink.fd = -1          # still the caller's
            raise OSError(-rc, os.strerror(-rc), target if isinstance(target, str) else None)
        self.started = 1

    def __dealloc__(self):
        if self.r != NULL:
            if self.started:
                with nogil:
                    flag_store(&self.r.stop, 1)
                    wake_signal(self.r.wake_write)
                    pthread_join(self.r.thread, NULL)
            release(self.r)

    cdef tap_t *tap(self) except NULL:
        if self.r == NULL:
            raise ValueError("the capture is closed")
        return &self.r.tap

    def tap_capsule(self):
        """Where the engine lays down what is to be recorded."""
        return PyCapsule_New(self.tap(), "netstack.capture.tap", NULL)

    def set_names(self, names) -> None:
        """The gateway's own names from now on: name to (type, data) pairs, as a DnsTable has them."""
        cdef recorder_t *r = <recorder_t *>self.tap()
        cdef bytes data = name_blocks(names)
        cdef size_t n = len(data)
        cdef char *copy = <char *>malloc(n if n else 1)
        if copy == NULL:
            raise MemoryError
        memcpy(copy, <const char *>data, n)
        pthread_mutex_lock(&r.names_lock)
        free(r.names)
        r.names = copy
        r.names_length = n
        flag_store(&r.names_new, 1)
        pthread_mutex_unlock(&r.names_lock)

    def state(self) -> dict:
        """What it has come to: frames, lost, bytes, full (it has ended at its limit), error (errno), files (of a
        ring)."""
        cdef recorder_t *r = self.r
        if r == NULL:
            return dict(self.ended)
        return {
            "frames": rec_load(&r.records),
            "lost": rec_load(&r.queue_lost) + rec_load(&r.writer_lost),
            "bytes": rec_load(&r.bytes),
            "full": flag_load(&r.ended) == ENDED_FULL,
            "error": r.sink.error,
            "files": r.files_written,
        }

    def write(self, uint64_t time_ns, bytes frame, *, int port=1, bint outbound=False, meta=(0, 0, 0, 0, 0, 0)) -> bool:
        """Records a frame where no engine does; False where it is not wanted, or lost.

        Args:
            time_ns: since 1970.
            frame: from its Ethernet header on.
            port: its link, 1..255.
            outbound: to the guest.
            meta: six numbers as in frame_meta.
        """
        cdef recorder_t *r = <recorder_t *>self.tap()
        cdef frame_meta m
        cdef iovec whole
        cdef tap_link link
        cdef decision_t nothing
        cdef record_t *record
        if not 0 < port < TAP_PORTS:
            raise ValueError(f"port {port} is not within 1..{TAP_PORTS - 1}")
        m.csum, m.gso_type, m.gso_size, m.hdr_len, m.csum_start, m.csum_offset = meta
        memset(&nothing, 0, sizeof(nothing))
        if not r.tap.known[port]:
            memset(&link, 0, sizeof(link))
            link.port = port
            link.name = ""
            r.tap.describe(&r.tap, &link, time_ns)
        whole.iov_base = <char *>frame
        whole.iov_len = len(frame)
        record = r.tap.frame(&r.tap, port, outbound, time_ns, &m, &whole, 1)
        r.tap.judge(&r.tap, record, &nothing)
        r.tap.turn(&r.tap)
        return record != NULL

    def close(self) -> dict:
        """Writes what waits, ends the file, and tells how it was (:meth:`state`). It waits for a disk; for the reader
        of a full pipe, at most a second. Closing again does nothing else."""
        cdef recorder_t *r = self.r
        if r != NULL:
            with nogil:
                flag_store(&r.stop, 1)
                wake_signal(r.wake_write)
                pthread_join(r.thread, NULL)
                sink_close(&r.sink)
            self.ended = self.state()
            self.r = NULL
            release(r)
        return dict(self.ended)
