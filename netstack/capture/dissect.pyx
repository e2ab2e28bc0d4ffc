"""Captured frames into columns: one pass in C, without the GIL, over a piece of a file in memory.

Frames are found and read a few dozen at a time. What the fixed headers of plain frames say goes straight into the
columns (``netstack.capture.plain``); of other frames, and where a column tells more than that, each is read into a
``fields_t``, and every wanted column takes its value out of that. Nothing is read of a frame that no wanted column
needs.

Python's side (files, NumPy arrays, names of what is there) is ``netstack.capture.table``.
"""

import os

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

from netstack.capture.conversations cimport (
    conversation_t, conversations_free, conversations_new, conversations_see, conversations_t, side_t,
)
from netstack.capture.fields cimport (
    LAYER_QUESTION, WANT_CONVERSATION, WANT_LINK, WANT_NETWORK, WANT_TRANSPORT, fields_size, fields_t,
)
from netstack.capture.filter cimport Filter, bpf_run, bpf_step
from netstack.capture.frames cimport frame_dissect
from netstack.capture.plain cimport (
    BATCH, FROM_NOWHERE, PLAIN_SHAPES, plain_add, plain_batch, plain_fill, plain_op,
)
from netstack.capture.plain import PLAIN_OPS
from netstack.capture.records cimport (
    FAULT_NOT_A_CAPTURE, LINK_COUNT, frame_record, records_end, records_fault_text, records_free, records_new,
    records_read, records_t,
)
from netstack.wire.dns_name cimport dns_name, dns_name_parse, name_to_text

cdef enum:
    MAX_COLUMNS = 80
    NOT_OF_THE_RECORD = 0xffff

cdef struct column_t:           # where a column is copied from, and to
    uint32_t offset             # in fields_t
    uint32_t size               # bytes of a value
    uint8_t *out
    uint32_t in_record          # what the file says of every frame: offset in frame_record, or NOT_OF_THE_RECORD
    uint8_t is_number
    plain_op[PLAIN_SHAPES] plain


cdef uint32_t offset_of(const fields_t *f, const void *member) noexcept nogil:
    return <uint32_t>(<const uint8_t *>member - <const uint8_t *>f)


def _layout():
    """Name: (offset, bytes) of every column that is a member of fields_t."""
    cdef fields_t f
    cdef fields_t *p = &f
    return {
        "number": (offset_of(p, &f.number), 8),
        "time": (offset_of(p, &f.time), 8),
        "length": (offset_of(p, &f.length), 4),
        "captured": (offset_of(p, &f.captured), 4),
        "interface": (offset_of(p, &f.interface), 4),
        "link_type": (offset_of(p, &f.link_type), 2),
        "layers": (offset_of(p, &f.layers), 4),
        "eth_src": (offset_of(p, &f.eth_src), 8),
        "eth_dst": (offset_of(p, &f.eth_dst), 8),
        "ethertype": (offset_of(p, &f.ethertype), 2),
        "vlan": (offset_of(p, &f.vlan), 2),
        "vlan_inner": (offset_of(p, &f.vlan_inner), 2),
        "arp_op": (offset_of(p, &f.arp_op), 1),
        "ip_version": (offset_of(p, &f.ip_version), 1),
        "ip_src": (offset_of(p, &f.ip_src), 4),
        "ip_dst": (offset_of(p, &f.ip_dst), 4),
        "ip6_src": (offset_of(p, &f.ip6_src), 16),
        "ip6_dst": (offset_of(p, &f.ip6_dst), 16),
        "protocol": (offset_of(p, &f.protocol), 1),
        "ip_tos": (offset_of(p, &f.tos), 1),
        "ip_length": (offset_of(p, &f.ip_length), 2),
        "ip_id": (offset_of(p, &f.ip_id), 4),
        "ip_flags": (offset_of(p, &f.ip_flags), 1),
        "fragment_offset": (offset_of(p, &f.fragment_offset), 2),
        "ttl": (offset_of(p, &f.ttl), 1),
        "src_port": (offset_of(p, &f.src_port), 2),
        "dst_port": (offset_of(p, &f.dst_port), 2),
        "payload": (offset_of(p, &f.payload), 4),
        "udp_length": (offset_of(p, &f.udp_length), 2),
        "icmp_type": (offset_of(p, &f.icmp_type), 1),
        "icmp_code": (offset_of(p, &f.icmp_code), 1),
        "tcp_seq": (offset_of(p, &f.tcp_seq), 4),
        "tcp_ack": (offset_of(p, &f.tcp_ack), 4),
        "tcp_header": (offset_of(p, &f.tcp_header), 1),
        "tcp_flags": (offset_of(p, &f.tcp_flags), 2),
        "tcp_window": (offset_of(p, &f.tcp_window), 2),
        "tcp_urgent": (offset_of(p, &f.tcp_urgent), 2),
        "tcp_mss": (offset_of(p, &f.tcp_mss), 2),
        "tcp_wscale": (offset_of(p, &f.tcp_wscale), 1),
        "tcp_sack_count": (offset_of(p, &f.sack_count), 1),
        "tcp_sack": (offset_of(p, &f.tcp_sack), 32),
        "tcp_tsval": (offset_of(p, &f.tcp_tsval), 4),
        "tcp_tsecr": (offset_of(p, &f.tcp_tsecr), 4),
        "dns_id": (offset_of(p, &f.dns_id), 2),
        "dns_flags": (offset_of(p, &f.dns_flags), 2),
        "dns_type": (offset_of(p, &f.dns_type), 2),
        "dns_rcode": (offset_of(p, &f.dns_rcode), 1),
        "dhcp_type": (offset_of(p, &f.dhcp_type), 1),
        "ip_checksum": (offset_of(p, &f.ip_check), 1),
        "l4_checksum": (offset_of(p, &f.l4_check), 1),
        "flow": (offset_of(p, &f.flow), 4),
        "tcp_analysis": (offset_of(p, &f.analysis), 2),
        "rtt": (offset_of(p, &f.rtt), 8),
    }


LAYOUT = _layout()


def _record_layout():
    """Name: offset in frame_record, of the columns that are the same for frames of all kinds."""
    cdef frame_record r
    cdef const uint8_t *start = <const uint8_t *>&r
    return {
        "time": <const uint8_t *>&r.time_ns - start,
        "length": <const uint8_t *>&r.length - start,
        "captured": <const uint8_t *>&r.captured - start,
        "interface": <const uint8_t *>&r.interface - start,
        "link_type": <const uint8_t *>&r.link_type - start,
    }


RECORD_LAYOUT = _record_layout()


cdef void scatter(
    const uint8_t *src, size_t stride, int count, uint32_t size, uint8_t *out
) noexcept nogil:
    """Copies values that lie stride bytes apart behind one another."""
    cdef uint16_t *d16 = <uint16_t *>out
    cdef uint32_t *d32 = <uint32_t *>out
    cdef uint64_t *d64 = <uint64_t *>out
    cdef int i, _i
    if size == 4:
        for i in range(count):
            d32[i] = (<const uint32_t *>src)[0]
            src += stride
    elif size == 2:
        for i in range(count):
            d16[i] = (<const uint16_t *>src)[0]
            src += stride
    elif size == 1:
        for i in range(count):
            out[i] = src[0]
            src += stride
    elif size == 8:
        for i in range(count):
            d64[i] = (<const uint64_t *>src)[0]
            src += stride
    else:
        for _i in range(count):
            memcpy(out, src, size)
            out += size
            src += stride


cdef void scatter_to(
    const uint8_t *src, size_t stride, const uint8_t *rows, int count, uint32_t size, uint8_t *out
) noexcept nogil:
    """The same into certain rows."""
    cdef int i
    for i in range(count):
        if size == 4:
            (<uint32_t *>out)[rows[i]] = (<const uint32_t *>src)[0]
        elif size == 2:
            (<uint16_t *>out)[rows[i]] = (<const uint16_t *>src)[0]
        elif size == 1:
            out[rows[i]] = src[0]
        elif size == 8:
            (<uint64_t *>out)[rows[i]] = (<const uint64_t *>src)[0]
        else:
            memcpy(out + <size_t>rows[i] * size, src, size)
        src += stride


cdef struct pass_t:             # the state of a pass over a file
    records_t *records
    conversations_t *conversations  # NULL where nobody wants them
    frame_record *frames        # BATCH of each
    plain_batch *plain          # NULL where a column tells more than the fixed headers
    int64_t *numbers
    uint8_t *others             # rows of those that are not plain, in the order of fields
    uint8_t *fields             # a fields_t every stride bytes
    size_t stride
    int want
    uint8_t wants_names
    int64_t number              # of the last frame found
    uint8_t *names              # of DNS questions: row (8 bytes), length (1), the name as on the wire
    size_t names_used, names_room
    const bpf_step *filters[LINK_COUNT]
    uint8_t filtered


cdef int keep_name(pass_t *p, const fields_t *f, uint64_t row) noexcept nogil:
    cdef dns_name name
    cdef uint8_t *grown
    cdef size_t room
    if dns_name_parse(f.message, f.message_length, 12, &name) < 0:
        return 0
    if p.names_room - p.names_used < 9 + <size_t>name.length:
        room = p.names_room * 2 if p.names_room else 65536
        grown = <uint8_t *>realloc(p.names, room)
        if grown == NULL:
            return -1
        p.names = grown
        p.names_room = room
    grown = p.names + p.names_used
    memcpy(grown, &row, 8)
    grown[8] = name.length
    memcpy(grown + 9, name.bytes, name.length)
    p.names_used += 9 + <size_t>name.length
    return 0


cdef void fill(const pass_t *p, const column_t *columns, int n, int kept, int others, size_t row) noexcept nogil:
    """Each column of the frames at hand, of which the first others were read into fields."""
    cdef const column_t *c
    cdef uint8_t *out
    cdef int k, shape
    for k in range(n):
        c = &columns[k]
        out = c.out + row * c.size
        if c.is_number:
            memcpy(out, p.numbers, <size_t>kept * 8)
        elif c.in_record != NOT_OF_THE_RECORD:
            scatter(<const uint8_t *>p.frames + c.in_record, sizeof(frame_record), kept, c.size, out)
        elif others == kept:
            scatter(p.fields + c.offset, p.stride, kept, c.size, out)
        else:
            for shape in range(PLAIN_SHAPES):
                if p.plain.count[shape]:
                    plain_fill(p.plain, shape, &c.plain[shape], c.size, out, kept)
            scatter_to(p.fields + c.offset, p.stride, p.others, others, c.size, out)


cdef bint passes(const pass_t *p, const frame_record *frame) noexcept nogil:
    cdef const bpf_step *program = p.filters[frame.link_type] if frame.link_type < LINK_COUNT else NULL
    return program != NULL and bpf_run(program, frame.data, frame.captured, frame.length) != 0


cdef size_t run(
    pass_t *p, const uint8_t *data, size_t length, const column_t *columns, int n_columns, size_t row, size_t room,
    size_t *rows
) noexcept nogil:
    """At most room frames into rows from row on; the bytes taken. Fewer than room: there are no more here."""
    cdef size_t taken = 0, done = 0
    cdef int found, kept, others, i, asked
    cdef const frame_record *frame
    cdef fields_t *f
    while done < room:
        asked = BATCH if room - done > BATCH else <int>(room - done)
        taken += records_read(p.records, data + taken, length - taken, p.frames, asked, &found)
        if found == 0:
            break
        kept = others = 0
        if p.plain != NULL:
            memset(p.plain.count, 0, sizeof(p.plain.count))
        for i in range(found):
            frame = &p.frames[i]
            p.number += 1
            if p.filtered:
                if not passes(p, frame):
                    continue
                p.frames[kept] = frame[0]
            p.numbers[kept] = p.number
            if p.plain == NULL or not plain_add(p.plain, frame, kept):
                f = <fields_t *>(p.fields + <size_t>others * p.stride)
                frame_dissect(frame, p.want, f)
                if p.conversations != NULL:
                    conversations_see(p.conversations, f)
                if p.wants_names and f.layers & LAYER_QUESTION:
                    keep_name(p, f, row + done + <size_t>kept)
                p.others[others] = <uint8_t>kept
                others += 1
            kept += 1
        fill(p, columns, n_columns, kept, others, row + done)
        done += <size_t>kept
    rows[0] = done
    return taken


@cython.final
@cython.auto_pickle(False)
cdef class Dissector:
    """One pass over one capture, given in pieces.

    Args:
        names: columns of `LAYOUT` that `feed` fills.
        want: bits of what has to be read of a frame for them.
        dns_names: whether the names of DNS questions are kept for `take_names`.
        filters: a `Filter` for every link type that may occur, by link type; None lets all frames pass, and
            frames of a link type without one do not.
    """

    cdef pass_t *p
    cdef column_t columns[MAX_COLUMNS]
    cdef int n_columns
    cdef readonly tuple names
    cdef object filters         # keeps their programs alive
    cdef dict texts

    def __cinit__(self, names, int want, bint dns_names=False, filters=None):
        cdef int i = 0
        cdef Filter one
        self.names = tuple(names)
        if len(self.names) > MAX_COLUMNS:
            raise ValueError(f"at most {MAX_COLUMNS} columns")
        for name in self.names:
            self.columns[i].offset, self.columns[i].size = LAYOUT[name]
            self.columns[i].in_record = RECORD_LAYOUT.get(name, NOT_OF_THE_RECORD)
            self.columns[i].is_number = name == "number"
            for shape, op in enumerate(PLAIN_OPS.get(name, ((FROM_NOWHERE,),) * PLAIN_SHAPES)):
                source, at, shift, mask, value = (*op, 0, 0, 0, 0)[:5]
                self.columns[i].plain[shape] = plain_op(source, at, shift, mask, value)
            i += 1
        self.n_columns = i
        self.texts = {}
        self.filters = filters
        self.p = <pass_t *>calloc(1, sizeof(pass_t))
        if self.p == NULL:
            raise MemoryError()
        self.p.records = records_new()
        self.p.frames = <frame_record *>malloc(BATCH * sizeof(frame_record))
        self.p.numbers = <int64_t *>malloc(BATCH * sizeof(int64_t))
        self.p.others = <uint8_t *>malloc(BATCH)
        self.p.stride = fields_size(want)
        self.p.fields = <uint8_t *>calloc(BATCH, sizeof(fields_t))
        if want & WANT_CONVERSATION:
            self.p.conversations = conversations_new(
                int.from_bytes(os.urandom(8), "little"), int.from_bytes(os.urandom(8), "little"))
        if not want & ~(WANT_LINK | WANT_NETWORK | WANT_TRANSPORT):
            self.p.plain = <plain_batch *>malloc(sizeof(plain_batch))
            if self.p.plain == NULL:
                raise MemoryError()
        if self.p.records == NULL or self.p.frames == NULL or self.p.fields == NULL or \
                self.p.numbers == NULL or self.p.others == NULL or \
                (want & WANT_CONVERSATION and self.p.conversations == NULL):
            raise MemoryError()
        self.p.want = want
        self.p.wants_names = dns_names
        if filters is not None:
            self.p.filtered = 1
            for kind, one in filters.items():
                if 0 <= kind < LINK_COUNT:
                    self.p.filters[kind] = one.program

    def __dealloc__(self):
        if self.p != NULL:
            records_free(self.p.records)
            conversations_free(self.p.conversations)
            free(self.p.frames)
            free(self.p.plain)
            free(self.p.numbers)
            free(self.p.others)
            free(self.p.fields)
            free(self.p.names)
            free(self.p)

    def feed(self, data, Py_ssize_t at, arrays, Py_ssize_t row, Py_ssize_t room):
        """Reads at most room frames from data[at:].

        Args:
            arrays: one for each of `names`, contiguous, with at least row + room items of its column's size.

        Returns:
            ``(bytes taken, rows filled)``. Fewer rows than room: the rest of data is no whole record, or
            `fault` says what is wrong.
        """
        cdef Py_buffer view
        cdef Py_buffer views[MAX_COLUMNS]
        cdef int i, held = 0
        cdef size_t taken, rows = 0
        cdef const uint8_t *start
        if row < 0 or room < 0 or len(arrays) != self.n_columns:
            raise ValueError("one array for each column, and rows from 0 on")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if not 0 <= at <= view.len:
                raise ValueError("at is outside data")
            for i in range(self.n_columns):
                PyObject_GetBuffer(arrays[i], &views[i], PyBUF_SIMPLE | PyBUF_WRITABLE)
                held += 1
                if views[i].len < (row + room) * <Py_ssize_t>self.columns[i].size:
                    raise ValueError(f"the array for {self.names[i]} is too small")
                self.columns[i].out = <uint8_t *>views[i].buf
            start = <const uint8_t *>view.buf + at
            with nogil:
                taken = run(
                    self.p, start, <size_t>(view.len - at), self.columns, self.n_columns, <size_t>row,
                    <size_t>room, &rows)
            return taken, rows
        finally:
            for i in range(held):
                PyBuffer_Release(&views[i])
            PyBuffer_Release(&view)

    def take_names(self):
        """``[(row, name)]`` of the DNS questions since the last call; names as text without the closing dot."""
        cdef list found = []
        cdef size_t at = 0
        cdef uint64_t row
        cdef bytes wire
        while at < self.p.names_used:
            memcpy(&row, self.p.names + at, 8)
            wire = (<char *>self.p.names)[at + 9:at + 9 + self.p.names[at + 8]]
            text = self.texts.get(wire)
            if text is None:
                if len(self.texts) > 65536:
                    self.texts.clear()
                text = self.texts[wire] = name_to_text(wire)
            found.append((row, text))
            at += 9 + <size_t>self.p.names[at + 8]
        self.p.names_used = 0
        return found

    def end(self, Py_ssize_t left):
        """The file has ended and left so many bytes that no record took: a `fault` unless there are none."""
        records_end(self.p.records, <size_t>left)

    @property
    def fault(self):
        """A clause that says what is wrong with the file, "" as long as nothing is."""
        return records_fault_text(self.p.records)

    @property
    def not_a_capture(self):
        """Whether the fault is that the file is none."""
        return self.p.records.fault == FAULT_NOT_A_CAPTURE

    @property
    def frames(self):
        """Frames found so far, those that the filter left out included."""
        return self.p.number

    @property
    def refused(self):
        """Frames that belong to no conversation because there were too many."""
        return 0 if self.p.conversations == NULL else self.p.conversations.refused

    def conversations(self):
        """A list of dicts, in the order of their first frames; see `netstack.capture.flow_table`."""
        cdef uint32_t i
        if self.p.conversations == NULL:
            return []
        return [conversation_dict(self.p.conversations.list[i]) for i in range(self.p.conversations.n)]


cdef dict side_dict(const side_t *s):
    return {
        "frames": s.frames,
        "bytes": s.bytes,
        "payload": s.payload,
        "retransmissions": s.retransmissions,
        "out_of_order": s.out_of_order,
        "duplicate_acks": s.duplicate_acks,
        "zero_windows": s.zero_windows,
        "lost_segments": s.lost_segments,
        "rtt_count": s.rtt_count,
        "rtt_sum": s.rtt_sum,
        "rtt_min": s.rtt_min,
        "rtt_max": s.rtt_max,
        "seen": s.seen,
    }


cdef dict conversation_dict(const conversation_t *v):
    if v.version == 6:
        addresses = (
            ((<object>v.v6[0] << 64) | v.v6[1]).to_bytes(16, "big"),
            ((<object>v.v6[2] << 64) | v.v6[3]).to_bytes(16, "big"),
        )
    else:
        addresses = (v.v4[0].to_bytes(4, "big"), v.v4[1].to_bytes(4, "big"))
    return {
        "protocol": v.protocol,
        "client": (addresses[0], v.port[0]),
        "server": (addresses[1], v.port[1]),
        "first": v.first,
        "last": v.last,
        "handshake": v.handshake,
        "reused": bool(v.reused),
        "up": side_dict(&v.client),
        "down": side_dict(&v.server),
    }
