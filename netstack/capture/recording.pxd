# A capture under way: what the engine's thread (`tapping`) and the capture's own (`recorder`) share. Inline:
# there is no module behind this file.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from netstack.capture.blocks cimport interface_block
from netstack.capture.filter cimport bpf_step
from netstack.capture.learned cimport learned_t
from netstack.capture.sink cimport sink_t
from netstack.capture.tap cimport TAP_PORTS, record_t, tap_t
from netstack.host.sockets cimport iovec
from netstack.host.sync cimport pthread_mutex_t, pthread_t
from netstack.link.link cimport link_t

cdef enum:
    RECORDER_QUEUE = 1 << 25    # bytes between the engine and the writer
    RECORDER_STAGE = 1 << 19    # bytes gathered for one write
    RECORDER_COUNTERS = 128
    HEAD_ROOM = 128             # from a record to its frame's bytes: the record, and a packet block's head
    DIRECT = 16384              # a frame from this size on is written from the queue itself
    TAIL_ROOM = 1280            # what its block has behind the frame at most
    ENDED_FULL = 1
    ENDED_ERROR = 2

cdef enum record_kind:
    RECORD_PAD = 0              # the rest of the queue's memory, not used: a record lies in one piece
    RECORD_FRAME = 1
    RECORD_LINK = 2             # tap_link's fields and its name
    RECORD_GONE = 3             # port_counts of a link that has closed
    RECORD_ANSWER = 4           # a DNS message
    RECORD_STOP = 5

cdef extern from *:
    """
    #define rec_load(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define rec_peek(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define rec_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define rec_count(p) __atomic_store_n((p), __atomic_load_n((p), __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED)
    #define rec_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    """
    uint64_t rec_load(uint64_t *p) noexcept nogil
    uint64_t rec_peek(const uint64_t *p) noexcept nogil
    void rec_store(uint64_t *p, uint64_t v) noexcept nogil
    void rec_count(uint64_t *p) noexcept nogil
    void rec_fence() noexcept nogil

ctypedef struct port_counts:
    uint64_t received, lost, accepted

ctypedef struct recorder_t:
    tap_t tap                   # first: the engine knows no more
    # --- the engine's side
    uint8_t *queue
    uint64_t tail               # reserved up to here
    uint64_t head_seen          # what the reader was seen to have read
    uint8_t open                # a frame of a guest waits for its judgement
    uint8_t told_lost, told_end
    uint32_t lost_run           # records lost since the last one that was not
    uint64_t writer_lost_seen
    uint64_t queue_lost
    uint64_t own_counters[256]  # where there is no engine
    bpf_step *program           # NULL: every frame is wanted
    uint32_t reach              # bytes of a frame that the program looks at, at most
    uint8_t *scratch            # a frame's first bytes in one piece
    uint32_t snaplen
    uint8_t wire_frames
    uint16_t watched[RECORDER_COUNTERS]
    uint64_t seen[RECORDER_COUNTERS]
    int n_watched
    port_counts ports[TAP_PORTS]
    # --- shared, one side writing and the other reading
    uint64_t published          # by the engine: the records before it are as they stay
    int sleeping                # by the writer: it waits for a wake-up
    int ended                   # by the writer: 1 = the limit, 2 = an error
    int stop                    # by who closes it
    uint64_t records, writer_lost, bytes        # by the writer
    uint32_t files_written
    char *names                 # blocks to be taken over, NULL = none; behind names_lock
    size_t names_length
    int names_new
    uint8_t[64] apart           # what both write lies in other cache lines
    uint64_t head               # by the writer
    # --- the writer's side
    int wake_read, wake_write
    sink_t sink
    uint8_t *stage
    size_t staged
    uint64_t limit
    uint32_t files
    uint64_t file_bytes
    uint64_t file_written       # staged or written of this file
    uint64_t file_records
    uint64_t last_ns
    uint32_t n_ids              # interface blocks in this file
    int ids[TAP_PORTS]          # of the links that are there, -1 = none
    uint8_t live[TAP_PORTS]
    interface_block links[TAP_PORTS]
    learned_t learned
    char *own                   # blocks of the gateway's own names
    size_t own_length
    char *texts[4]              # hardware, system, application, filter
    link_t wire                 # what cuts super-frames sends to
    const record_t *cut         # the record that is being cut, and its frame's comments
    uint32_t cut_index
    pthread_t thread
    pthread_mutex_t names_lock


cdef inline uint8_t *data_of(const record_t *record) noexcept nogil:
    return <uint8_t *>record + HEAD_ROOM


cdef inline uint32_t gather(uint8_t *out, const iovec *iov, int n, uint32_t skip, uint32_t length) noexcept nogil:
    """Copies length bytes from skip on, as far as they are there; how many."""
    cdef uint32_t done = 0, part
    cdef int i
    for i in range(n):
        part = <uint32_t>iov[i].iov_len
        if skip >= part:
            skip -= part
            continue
        part -= skip
        if part > length - done:
            part = length - done
        memcpy(out + done, <const uint8_t *>iov[i].iov_base + skip, part)
        done += part
        skip = 0
    return done
