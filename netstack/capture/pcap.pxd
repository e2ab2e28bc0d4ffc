# A writer of frames that a program has (no GIL, no lock: one thread owns a writer).
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    PCAP_BUFFER = 524288        # bytes; holds the largest record and at least 256 KiB of others
    PCAP_CLOSE_WAIT_MS = 1000   # how long pcap_close waits for the reader of a full pipe

ctypedef struct pcap_part:      # one piece of a frame; a frame is the concatenation of its parts
    const uint8_t *data
    size_t length

ctypedef struct pcap_writer:
    int fd
    int error               # errno of the failure that ended the capture, 0 while it runs
    uint32_t snaplen
    uint8_t regular         # a file of our own, which a failed write may be cut off from again
    uint64_t records        # written or waiting in the buffer
    uint64_t lost           # not written, for an error or because a pipe's reader fell behind
    uint64_t whole          # bytes of complete blocks that reached the file
    size_t block            # offset in the buffer of the first block that has not been written completely
    size_t head             # offset of the first byte that has not been written; block <= head <= used
    size_t used
    uint8_t *buffer

# Creates path (0600, truncated); "-" is standard output. snaplen 0 or above PCAP_MAX_SNAPLEN is
# PCAP_MAX_SNAPLEN. NULL with errno where that fails. The header is buffered: the file is empty until the
# first flush.
cdef pcap_writer *pcap_open(const char *path, uint32_t snaplen) noexcept nogil
# Appends one record of min(total, snaplen, bytes in parts) bytes; total is the frame's length on the wire.
# 1, or 0 where the record was lost (and counted).
cdef int pcap_write(
    pcap_writer *w, uint64_t realtime_ns, const pcap_part *parts, int n_parts, size_t total
) noexcept nogil
# Hands the buffer to the operating system; 0 or -errno. A pipe whose reader is behind keeps the rest buffered
# (0).
cdef int pcap_flush(pcap_writer *w) noexcept nogil
# Flushes, closes and frees; 0 or -errno of the first failure. NULL is allowed.
cdef int pcap_close(pcap_writer *w) noexcept nogil
