"""Capture files: pcapng written without the GIL, pcap and pcapng read.

Written is a section header, one Ethernet interface with if_tsresol 9 (nanoseconds) and an enhanced packet
block for each frame, all in the machine's byte order, which the section header declares.
"""

import io
import os
import sys

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING
from libc.errno cimport EAGAIN, EINTR, EINVAL, EIO, EPIPE, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memmove, memset, strcmp
from posix.fcntl cimport (
    F_DUPFD_CLOEXEC,
    F_SETFL,
    O_CLOEXEC,
    O_CREAT,
    O_NONBLOCK,
    O_TRUNC,
    O_WRONLY,
    fcntl,
    open,
)
from posix.stat cimport S_ISFIFO, S_ISREG, fstat, struct_stat
from posix.unistd cimport close, ftruncate, usleep, write

from netstack.errors import WireError
from netstack.wire.be cimport be16, be32
from netstack.wire.code cimport (
    WIRE_BAD_LENGTH,
    WIRE_BAD_VALUE,
    WIRE_BAD_VERSION,
    WIRE_TRUNCATED,
    WIRE_UNSUPPORTED,
)

cdef enum:
    BLOCK_SECTION = 0x0a0d0d0a
    BLOCK_INTERFACE = 1
    BLOCK_PACKET_OLD = 2
    BLOCK_SIMPLE = 3
    BLOCK_ENHANCED = 6
    BYTE_ORDER_MAGIC = 0x1a2b3c4d
    LINK_ETHERNET = 1
    OPTION_USER_APPLICATION = 4
    OPTION_TSRESOL = 9
    OPTION_TSOFFSET = 14
    SECTION_LENGTH = 44
    INTERFACE_LENGTH = 32
    ENHANCED_OVERHEAD = 32      # bytes of an enhanced packet block beside the padded frame
    MAX_PARTS = 8
    MAX_BLOCK = 1 << 24         # a longer pcapng block is not believed


cdef inline void put32(uint8_t *p, uint32_t v) noexcept nogil:
    memcpy(p, &v, 4)


cdef inline void put16(uint8_t *p, uint16_t v) noexcept nogil:
    memcpy(p, &v, 2)


cdef inline uint32_t get32(const uint8_t *p) noexcept nogil:
    cdef uint32_t v
    memcpy(&v, p, 4)
    return v


cdef void write_file_header(pcap_writer *w) noexcept nogil:
    cdef uint8_t *p = w.buffer
    memset(p, 0, SECTION_LENGTH + INTERFACE_LENGTH)
    put32(p, BLOCK_SECTION)
    put32(p + 4, SECTION_LENGTH)
    put32(p + 8, BYTE_ORDER_MAGIC)
    put16(p + 12, 1)                    # version 1.0
    memset(p + 16, 0xff, 8)             # section length unknown
    put16(p + 24, OPTION_USER_APPLICATION)
    put16(p + 26, 8)
    memcpy(p + 28, b"netstack", 8)
    put32(p + SECTION_LENGTH - 4, SECTION_LENGTH)       # before it, the end of options: four zero bytes
    p += SECTION_LENGTH
    put32(p, BLOCK_INTERFACE)
    put32(p + 4, INTERFACE_LENGTH)
    put16(p + 8, LINK_ETHERNET)
    put32(p + 12, w.snaplen)
    put16(p + 16, OPTION_TSRESOL)
    put16(p + 18, 1)
    p[20] = 9
    put32(p + INTERFACE_LENGTH - 4, INTERFACE_LENGTH)
    w.accepted = w.used = SECTION_LENGTH + INTERFACE_LENGTH


cdef int open_standard_output() noexcept nogil:
    """A descriptor of our own for standard output, non-blocking where it is a pipe and can be opened anew.

    The flag belongs to the open file and not to the descriptor: set on a duplicate it would surprise every
    other process that writes to the same pipe.
    """
    cdef struct_stat st
    cdef int fd = -1
    if fstat(1, &st) == 0 and S_ISFIFO(st.st_mode):
        fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC)
    return fd if fd >= 0 else fcntl(1, F_DUPFD_CLOEXEC, 3)


cdef pcap_writer *writer_new(uint32_t snaplen) noexcept nogil:
    cdef pcap_writer *w = <pcap_writer *>calloc(1, sizeof(pcap_writer))
    if w == NULL:
        return NULL
    w.buffer = <uint8_t *>malloc(PCAP_BUFFER)
    if w.buffer == NULL:
        free(w)
        return NULL
    w.snaplen = snaplen if 0 < snaplen <= PCAP_MAX_SNAPLEN else PCAP_MAX_SNAPLEN
    return w


cdef pcap_writer *pcap_open_fd(int fd, uint32_t snaplen) noexcept nogil:
    cdef struct_stat st
    cdef pcap_writer *w = writer_new(snaplen)
    if w == NULL:
        return NULL
    w.fd = fd
    if fstat(fd, &st) == 0 and S_ISFIFO(st.st_mode):
        fcntl(fd, F_SETFL, O_NONBLOCK)
    write_file_header(w)
    return w


cdef pcap_writer *pcap_open(const char *path, uint32_t snaplen) noexcept nogil:
    cdef struct_stat st
    cdef int failure
    cdef pcap_writer *w = writer_new(snaplen)
    if w == NULL:
        return NULL
    if strcmp(path, "-") == 0:
        w.fd = open_standard_output()
    else:
        w.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        if w.fd >= 0 and fstat(w.fd, &st) == 0:
            w.regular = S_ISREG(st.st_mode) != 0
            if S_ISFIFO(st.st_mode):
                fcntl(w.fd, F_SETFL, O_NONBLOCK)
    if w.fd < 0:
        failure = errno
        free(w.buffer)
        free(w)
        (&errno)[0] = failure
        return NULL
    write_file_header(w)
    return w


cdef void step_over_written_blocks(pcap_writer *w) noexcept nogil:
    """Moves block up to head, past every block that lies before it completely."""
    cdef size_t length
    while w.block < w.head:
        length = get32(w.buffer + w.block + 4)
        if w.block + length > w.head:
            return
        w.block += length
        w.whole += length


cdef void fail(pcap_writer *w, int error) noexcept nogil:
    """Ends the capture: what waits is lost, and a torn block is cut off the file."""
    w.error = error
    step_over_written_blocks(w)
    if w.regular and w.head > w.block:
        ftruncate(w.fd, <int64_t>w.whole)
    while w.block < w.used:
        if get32(w.buffer + w.block) == BLOCK_ENHANCED:
            w.records -= 1
            w.lost += 1
        w.block += get32(w.buffer + w.block + 4)
    w.block = w.head = w.used = 0


cdef int pcap_flush(pcap_writer *w) noexcept nogil:
    cdef ssize_t n
    if w.error:
        return -w.error
    while w.head < w.used:
        n = write(w.fd, w.buffer + w.head, w.used - w.head)
        if n > 0:
            w.head += <size_t>n
        elif n == 0:
            fail(w, EIO)
            return -EIO
        elif errno == EAGAIN:
            break
        elif errno != EINTR:
            fail(w, errno)
            return -w.error
    step_over_written_blocks(w)
    if w.block == w.used:
        w.block = w.head = w.used = 0
    return 0


cdef size_t room_after_flush(pcap_writer *w, size_t need) noexcept nogil:
    """Makes room for a record of need bytes as far as that works without waiting; the room there is."""
    if PCAP_BUFFER - w.used >= need:
        return PCAP_BUFFER - w.used
    pcap_flush(w)
    if PCAP_BUFFER - w.used < need and w.block:
        memmove(w.buffer, w.buffer + w.block, w.used - w.block)
        w.head -= w.block
        w.used -= w.block
        w.block = 0
    return PCAP_BUFFER - w.used


cdef int pcap_write(
    pcap_writer *w, uint64_t realtime_ns, const pcap_part *parts, int n_parts, size_t total
) noexcept nogil:
    cdef size_t present = 0, captured, padded, length, n
    cdef uint8_t *p
    cdef int i
    if w.error:
        w.lost += 1
        return 0
    for i in range(n_parts):
        present += parts[i].length
    captured = total if total < w.snaplen else w.snaplen
    if captured > present:
        captured = present
    padded = (captured + 3) & ~<size_t>3
    length = padded + ENHANCED_OVERHEAD
    if w.full or (w.limit and w.accepted + length > w.limit):
        w.full = 1
        return 0
    if PCAP_BUFFER - w.used < length and room_after_flush(w, length) < length or w.error:
        w.lost += 1
        return 0
    p = w.buffer + w.used
    put32(p, BLOCK_ENHANCED)
    put32(p + 4, <uint32_t>length)
    put32(p + 8, 0)
    put32(p + 12, <uint32_t>(realtime_ns >> 32))
    put32(p + 16, <uint32_t>realtime_ns)
    put32(p + 20, <uint32_t>captured)
    put32(p + 24, <uint32_t>total)
    p += 28
    for i in range(n_parts):
        n = parts[i].length if parts[i].length < captured else captured
        if n == 0:
            continue    # data may be NULL
        memcpy(p, parts[i].data, n)
        p += n
        captured -= n
        padded -= n
    memset(p, 0, padded)
    put32(p + padded, <uint32_t>length)
    w.used += length
    w.accepted += length
    w.records += 1
    return 1


cdef int pcap_close(pcap_writer *w) noexcept nogil:
    cdef int waited = 0, error
    if w == NULL:
        return 0
    pcap_flush(w)
    while w.error == 0 and w.used:
        if waited == PCAP_CLOSE_WAIT_MS:
            fail(w, EPIPE)
            break
        usleep(1000)
        waited += 1
        pcap_flush(w)
    if close(w.fd) < 0 and w.error == 0 and errno != EINTR:
        w.error = errno
    error = w.error
    free(w.buffer)
    free(w)
    return -error


cdef pcap_writer *pcap_begin(target, uint32_t snaplen, uint64_t limit) except NULL:
    cdef pcap_writer *w
    cdef bytes name
    if isinstance(target, int):
        w = pcap_open_fd(target, snaplen)
    else:
        name = os.fsencode(target)
        if b"\0" in name:
            raise OSError(EINVAL, os.strerror(EINVAL), target)
        w = pcap_open(name, snaplen)
    if w == NULL:
        raise OSError(errno, os.strerror(errno), target)
    w.limit = limit
    pcap_flush(w)
    return w


cdef dict pcap_end(pcap_writer *w):
    cdef int code
    out = {"frames": w.records, "lost": w.lost, "bytes": w.accepted, "full": bool(w.full)}
    with nogil:                 # it may wait for the reader of a pipe, as nobody else does
        code = pcap_close(w)
    return out | {"error": -code}


@cython.final
@cython.auto_pickle(False)
cdef class PcapWriter:
    """Writes frames to a pcapng file; for one thread at a time.

    Args:
        path: created and truncated; ``-`` is standard output.
        snaplen: bytes of a frame that are kept, 1..262144 (0 stands for the most).

    Raises:
        OSError: the file cannot be created.
    """

    cdef pcap_writer *w
    cdef readonly object path

    def __cinit__(self, path, uint32_t snaplen=0):
        cdef bytes name = os.fsencode(path)
        if b"\0" in name:
            raise ValueError("a path has no NUL bytes")
        self.path = path
        self.w = pcap_open(name, snaplen)
        if self.w == NULL:
            raise OSError(errno, os.strerror(errno), path)

    def __dealloc__(self):
        pcap_close(self.w)

    cdef pcap_writer *opened(self) except NULL:
        if self.w == NULL:
            raise ValueError("the capture is closed")
        return self.w

    def write(self, uint64_t realtime_ns, frame, total=None):
        """Appends a frame.

        Args:
            realtime_ns: the time since 1970.
            frame: bytes-like, or a list or tuple of at most 8 bytes-like parts.
            total: the frame's length on the wire where that is more than is given.

        Returns:
            False where the record was lost, which :attr:`lost` counts: after an I/O error, or because the
            reader of a pipe fell behind.
        """
        cdef pcap_writer *w = self.opened()
        cdef Py_buffer views[MAX_PARTS]
        cdef pcap_part parts[MAX_PARTS]
        cdef size_t length = 0, claimed = 0 if total is None else total
        cdef int i, n = 0
        cdef tuple pieces = tuple(frame) if isinstance(frame, (list, tuple)) else (frame,)
        if len(pieces) > MAX_PARTS:
            raise ValueError(f"a frame has at most {MAX_PARTS} parts, not {len(pieces)}")
        try:
            for piece in pieces:
                PyObject_GetBuffer(piece, &views[n], PyBUF_SIMPLE)
                parts[n].data = <const uint8_t *>views[n].buf
                parts[n].length = <size_t>views[n].len
                length += parts[n].length
                n += 1
            return pcap_write(w, realtime_ns, parts, n, claimed if claimed > length else length) != 0
        finally:
            for i in range(n):
                PyBuffer_Release(&views[i])

    def flush(self):
        """Hands what is buffered to the operating system.

        Raises:
            OSError: it did not take it; the capture has ended and counts what it loses.
        """
        cdef int code = pcap_flush(self.opened())
        if code < 0:
            raise OSError(-code, os.strerror(-code), self.path)

    def close(self):
        """Flushes and closes; closing again does nothing.

        Raises:
            OSError: the first failure of the capture.
        """
        cdef pcap_writer *w = self.w
        cdef int code
        self.w = NULL
        with nogil:     # it may wait for the reader of a pipe, which may be a thread of this process
            code = pcap_close(w)
        if code < 0:
            raise OSError(-code, os.strerror(-code), self.path)

    @property
    def records(self):
        """Frames written, or waiting in the buffer."""
        return self.opened().records

    @property
    def lost(self):
        """Frames that were not written."""
        return self.opened().lost

    @property
    def error(self):
        """The errno that ended the capture, 0 while it runs."""
        return self.opened().error

    def __enter__(self):
        self.opened()
        return self

    def __exit__(self, exc_type, exc, traceback):
        self.close()


cdef object bad(int code, str what, object offset):
    return WireError(code, f"{what} at byte {offset} of the capture")


@cython.final
@cython.auto_pickle(False)
cdef class _Source:
    """A binary file that is read forwards only, in one byte order, with the offset for error messages."""

    cdef object file
    cdef readonly object offset
    cdef bint big

    def __cinit__(self, file):
        self.file = file
        self.offset = 0
        self.big = False

    cdef bytes take(self, Py_ssize_t n, bint or_end=False):
        """Exactly n bytes; b"" at the end of the file where or_end."""
        cdef bytes data = self.file.read(n)
        if len(data) < n:
            if or_end and not data:
                return data
            raise bad(WIRE_TRUNCATED, "truncated record", self.offset)
        self.offset += n
        return data

    cdef uint16_t u16(self, bytes data, Py_ssize_t at) noexcept:
        cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(data) + at
        return be16(p) if self.big else <uint16_t>(p[0] | (p[1] << 8))

    cdef uint32_t u32(self, bytes data, Py_ssize_t at) noexcept:
        cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(data) + at
        if self.big:
            return be32(p)
        return p[0] | (<uint32_t>p[1] << 8) | (<uint32_t>p[2] << 16) | (<uint32_t>p[3] << 24)


def read_pcap(path, *, link_type=1):
    """Iterates over the packets of a pcap or pcapng file as ``(time_ns, bytes)``.

    Args:
        path: of a file; ``-`` is standard input; or a binary file object, which is left open.
        link_type: what every packet must be (1 = Ethernet), or None for any.

    Yields:
        The time in ns since 1970 (0 where the file holds none) and the captured bytes.

    Raises:
        OSError: the file cannot be read.
        WireError: truncated, bad version (not a capture), bad length, bad value, unsupported (another link type).
            Packets before the fault have been yielded.
    """
    if hasattr(path, "read"):
        yield from _read_packets(path, link_type)
    elif path == "-":
        yield from _read_packets(sys.stdin.buffer, link_type)
    else:
        with io.open(path, "rb") as file:
            yield from _read_packets(file, link_type)


def _read_packets(file, link_type):
    cdef _Source source = _Source(file)
    cdef bytes magic = source.take(4)
    if magic == b"\x0a\x0d\x0d\x0a":
        return _read_pcapng(source, link_type)
    for order in ("little", "big"):
        for number, unit in ((0xa1b2c3d4, 1000), (0xa1b23c4d, 1)):
            if int.from_bytes(magic, order) == number:
                source.big = order == "big"
                return _read_classic(source, unit, link_type)
    raise bad(WIRE_BAD_VERSION, "neither a pcap nor a pcapng file", 0)


def _read_classic(_Source source, uint64_t unit, link_type):
    cdef bytes head = source.take(20)
    cdef uint32_t captured
    if source.u16(head, 0) != 2:
        raise bad(WIRE_BAD_VERSION, "unknown version", 4)
    check_link_type(source.u32(head, 16) & 0xffff, link_type, 20)
    while True:
        head = source.take(16, True)
        if not head:
            return
        captured = source.u32(head, 8)
        if captured > PCAP_MAX_SNAPLEN:
            raise bad(WIRE_BAD_LENGTH, f"record of {captured} bytes", source.offset - 16)
        time_ns = <uint64_t>source.u32(head, 0) * 1000000000 + <uint64_t>source.u32(head, 4) * unit
        yield time_ns, source.take(captured)


cdef int check_link_type(object found, object wanted, object offset) except -1:
    if wanted is not None and found != wanted:
        raise bad(WIRE_UNSUPPORTED, f"link type {found} instead of {wanted}", offset)
    return 0


cdef tuple interface_of(_Source source, bytes body):
    """(link type, snaplen, ticks per second, offset in ns) of an interface description block."""
    cdef Py_ssize_t at = 8, end = len(body)
    cdef object ticks = 1000000, shift = 0, exponent
    cdef uint16_t kind, length
    while at + 4 <= end:
        kind, length = source.u16(body, at), source.u16(body, at + 2)
        at += 4
        if kind == 0:
            break
        if at + length > end:
            raise bad(WIRE_BAD_LENGTH, "option that runs past its block", source.offset)
        if kind == OPTION_TSRESOL and length == 1:
            # Python's integers: powers of C integers are floating-point numbers.
            exponent = body[at] & 0x7f
            ticks = <object>2 ** exponent if body[at] & 0x80 else <object>10 ** exponent
        elif kind == OPTION_TSOFFSET and length == 8:
            order = "big" if source.big else "little"
            shift = int.from_bytes(body[at:at + 8], order, signed=True) * 1000000000
        at += (length + 3) & ~3
    return source.u16(body, 0), source.u32(body, 4), ticks, shift


cdef bytes take_body(_Source source, uint32_t length, uint32_t least, uint32_t taken, object start):
    """The rest of a block of which taken bytes have been read, without the trailing length (checked)."""
    cdef bytes rest
    if length < least or length & 3 or length > MAX_BLOCK:
        raise bad(WIRE_BAD_LENGTH, f"block of {length} bytes", start)
    rest = source.take(length - taken)
    if source.u32(rest, len(rest) - 4) != length:
        raise bad(WIRE_BAD_LENGTH, "block whose two lengths differ", start)
    return rest[:len(rest) - 4]


cdef tuple packet_of(_Source source, uint32_t kind, bytes body, list interfaces, link_type, start):
    """(time in ns, bytes) of a packet block of any of the three kinds."""
    cdef Py_ssize_t at = 4 if kind == BLOCK_SIMPLE else 20
    cdef object index = 0, ticks, captured
    if len(body) < at:
        raise bad(WIRE_BAD_LENGTH, "short packet block", start)
    if kind == BLOCK_ENHANCED:
        index = source.u32(body, 0)
    elif kind == BLOCK_PACKET_OLD:
        index = source.u16(body, 0)
    if index >= len(interfaces):
        raise bad(WIRE_BAD_VALUE, f"packet of interface {index}, which is not described,", start)
    found, snaplen, per_second, shift = interfaces[index]
    check_link_type(found, link_type, start)
    if kind == BLOCK_SIMPLE:
        captured = min(source.u32(body, 0), snaplen or PCAP_MAX_SNAPLEN, len(body) - at)
        return 0, body[at:at + captured]
    ticks = <uint64_t>source.u32(body, 4) << 32 | source.u32(body, 8)
    captured = source.u32(body, 12)
    if captured > len(body) - at:
        raise bad(WIRE_BAD_LENGTH, f"packet of {captured} bytes in a shorter block", start)
    return ticks * 1000000000 // per_second + shift, body[at:at + captured]


def _read_pcapng(_Source source, link_type):
    cdef list interfaces = []
    cdef bytes body, order
    cdef bytes head = b"\x0a\x0d\x0d\x0a" + source.take(4)
    cdef uint32_t kind
    cdef object start = 0
    while head:
        if head[:4] == b"\x0a\x0d\x0d\x0a":
            # The byte order of a section is known only from the first word of its body.
            order = source.take(4)
            if order == b"\x4d\x3c\x2b\x1a":
                source.big = False
            elif order == b"\x1a\x2b\x3c\x4d":
                source.big = True
            else:
                raise bad(WIRE_BAD_VERSION, "section without a byte-order magic", start)
            body = take_body(source, source.u32(head, 4), 28, 12, start)
            if source.u16(body, 0) != 1:
                raise bad(WIRE_BAD_VERSION, "unknown version", start)
            interfaces = []
        else:
            kind = source.u32(head, 0)
            body = take_body(source, source.u32(head, 4), 12, 8, start)
            if kind == BLOCK_INTERFACE:
                if len(body) < 8:
                    raise bad(WIRE_BAD_LENGTH, "short interface description", start)
                interfaces.append(interface_of(source, body))
            elif kind == BLOCK_ENHANCED or kind == BLOCK_PACKET_OLD or kind == BLOCK_SIMPLE:
                yield packet_of(source, kind, body, interfaces, link_type, start)
        start = source.offset
        head = source.take(8, True)
