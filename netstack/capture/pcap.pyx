"""Capture files, frame by frame: pcapng written, pcap and pcapng read.

What a gateway captures is written by `recorder`; this writer is for frames that a program has. Written is a
section header, one Ethernet interface with if_tsresol 9 (nanoseconds) and an enhanced packet block for each frame, all
in the machine's byte order, which the section header declares.
"""

import io
import os
import sys

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EINTR, EIO, EPIPE, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memmove, memset, strcmp
from posix.fcntl cimport (
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

from netstack.capture.blocks cimport (
    BLOCK_ENHANCED,
    BLOCK_INTERFACE,
    BLOCK_SECTION,
    BYTE_ORDER_MAGIC,
    LINK_ETHERNET,
    OPTION_TSRESOL,
    OPTION_USER_APPLICATION,
    PCAP_MAX_SNAPLEN,
    get32,
    put16,
    put32,
)
from netstack.capture.records cimport (
    FAULT_BYTE_ORDER,
    FAULT_CUT,
    FAULT_INTERFACE,
    FAULT_NONE,
    FAULT_NOT_A_CAPTURE,
    FAULT_VERSION,
    frame_record,
    records_end,
    records_fault_text,
    records_free,
    records_new,
    records_read,
    records_t,
)
from netstack.capture.sink cimport open_standard_output
from netstack.errors import WireError
from netstack.wire.code cimport (
    WIRE_BAD_LENGTH,
    WIRE_BAD_VALUE,
    WIRE_BAD_VERSION,
    WIRE_TRUNCATED,
    WIRE_UNSUPPORTED,
)

cdef enum:
    SECTION_LENGTH = 44
    INTERFACE_LENGTH = 32
    ENHANCED_OVERHEAD = 32      # bytes of an enhanced packet block beside the padded frame
    MAX_PARTS = 8
    CHUNK = 1 << 18             # bytes read at a time
    FRAMES = 256                # frames found at a time


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
    w.used = SECTION_LENGTH + INTERFACE_LENGTH


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


cdef dict CODES = {
    FAULT_CUT: WIRE_TRUNCATED,
    FAULT_NOT_A_CAPTURE: WIRE_BAD_VERSION,
    FAULT_VERSION: WIRE_BAD_VERSION,
    FAULT_BYTE_ORDER: WIRE_BAD_VERSION,
    FAULT_INTERFACE: WIRE_BAD_VALUE,
}


def _read_packets(file, link_type):
    cdef _Records found = _Records(link_type)
    read = getattr(file, "read1", file.read)
    rest = b""
    while True:
        chunk = read(CHUNK)
        data = rest + chunk
        while True:
            packets, taken = found.read(data)
            yield from packets
            data = data[taken:]
            if not packets:
                break
        found.check(not chunk, len(data))
        if not chunk:
            return
        rest = data


@cython.final
@cython.auto_pickle(False)
cdef class _Records:
    """Packets of a capture that comes in pieces, out of the reader that `netstack dissect` has."""

    cdef records_t *r
    cdef object link_type
    cdef object wrong           # the link type of a packet that was not to be there

    def __cinit__(self, link_type):
        self.link_type = link_type
        self.wrong = None
        self.r = records_new()
        if self.r == NULL:
            raise MemoryError()

    def __dealloc__(self):
        records_free(self.r)

    cdef read(self, bytes data):
        """Some packets, and how many bytes they were."""
        cdef frame_record[FRAMES] frames
        cdef frame_record *f
        cdef int n = 0, i
        cdef size_t taken
        cdef list out = []
        if self.wrong is not None:
            return out, 0
        taken = records_read(self.r, <const uint8_t *><const char *>data, len(data), frames, FRAMES, &n)
        for i in range(n):
            f = &frames[i]
            if self.link_type is not None and f.link_type != self.link_type:
                self.wrong = f.link_type
                break
            # Times of 64 bits: what is beyond the year 2262 is negative there.
            out.append((<uint64_t>f.time_ns, PyBytes_FromStringAndSize(<const char *>f.data, f.captured)))
        return out, taken

    cdef check(self, bint ended, size_t left):
        """Raises what is wrong with the capture."""
        cdef int fault
        cdef bint cut = self.r.fault == FAULT_NONE  # or it ends before it says what it is
        if self.wrong is not None:
            raise WireError(
                WIRE_UNSUPPORTED,
                f"link type {self.wrong} instead of {self.link_type} at byte {self.r.offset} of the capture")
        if ended:
            records_end(self.r, left)
        fault = self.r.fault
        if fault == FAULT_NONE:
            return
        code = WIRE_TRUNCATED if ended and cut else CODES.get(fault, WIRE_BAD_LENGTH)
        raise WireError(code, f"{records_fault_text(self.r)}, at byte {self.r.fault_at} of the capture")
