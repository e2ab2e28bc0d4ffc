"""Where a capture's blocks go. Its thread waits here for a slow disk or reader, and nobody else does.

A pipe or socket that is full is waited for; one whose reader goes ends the capture. Of a file that cannot be written
any further, what was torn is cut off, so that it stays readable.
"""
from libc.errno cimport EAGAIN, EINTR, EIO, EPIPE, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset, strcmp, strdup, strlen
from posix.fcntl cimport (
    F_DUPFD_CLOEXEC, F_GETFL, F_SETFL, O_CLOEXEC, O_CREAT, O_NONBLOCK, O_TRUNC, O_WRONLY, fcntl, open,
)
from posix.stat cimport S_ISFIFO, S_ISREG, S_ISSOCK, fstat, struct_stat
from posix.unistd cimport close, ftruncate, unlink, write

from netstack.capture.blocks cimport get32
from netstack.host.clock cimport clock_now_ns
from netstack.host.sync cimport flag_load
from netstack.host.wake cimport wake_clear

cdef extern from *:
    """
    #include <poll.h>
    #include <time.h>
    #include <sys/socket.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    static inline int sink_poll(int fd, int events, int wake_fd, int milliseconds) {
        struct pollfd fds[2];
        int n = 1;
        fds[0].fd = wake_fd; fds[0].events = POLLIN; fds[0].revents = 0;
        if (fd >= 0) {
            fds[1].fd = fd; fds[1].events = (short) events; fds[1].revents = 0;
            n = 2;
        }
        if (poll(fds, n, milliseconds) <= 0) return 0;
        return (fds[0].revents ? 1 : 0) | (n == 2 && fds[1].revents & (POLLERR | POLLHUP | POLLNVAL) ? 2 : 0);
    }
    static inline ssize_t sink_send(int fd, const void *data, size_t length) {
        return send(fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    static inline void sink_stamp(uint64_t time_ns, char *out, size_t room) {
        time_t seconds = (time_t) (time_ns / 1000000000u);
        struct tm local;
        if (localtime_r(&seconds, &local) == NULL || strftime(out, room, "%Y%m%d%H%M%S", &local) == 0) out[0] = 0;
    }
    """
    int POLLOUT
    int sink_poll(int fd, int events, int wake_fd, int milliseconds) noexcept nogil
    ssize_t sink_send(int fd, const void *data, size_t length) noexcept nogil
    void sink_stamp(uint64_t time_ns, char *out, size_t room) noexcept nogil


cdef int look_at(sink_t *s, int fd) noexcept nogil:
    cdef struct_stat st
    s.fd = fd
    if fstat(fd, &st) < 0:
        return -errno
    s.socket = S_ISSOCK(st.st_mode) != 0
    s.stream = s.socket or S_ISFIFO(st.st_mode)
    s.regular = S_ISREG(st.st_mode) != 0
    return 0


cdef int sink_open_fd(sink_t *s, int fd) noexcept nogil:
    cdef int rc = look_at(s, fd)
    s.regular = 0                       # somebody else's
    if rc == 0 and s.stream and not s.socket:
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK)
    return rc


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


cdef int open_file(sink_t *s, const char *path) noexcept nogil:
    """Non-blocking, so that a FIFO without a reader is an error (ENXIO) and not a wait without end."""
    cdef int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0o600)
    return -errno if fd < 0 else look_at(s, fd)


cdef int sink_open(sink_t *s, const char *path) noexcept nogil:
    cdef int fd
    if strcmp(path, "-") != 0:
        return open_file(s, path)
    fd = open_standard_output()
    if fd < 0:
        return -errno
    look_at(s, fd)
    s.regular = 0
    return 0


cdef int sink_ring(sink_t *s, const char *stem, const char *suffix, uint32_t files) noexcept nogil:
    s.files = files
    s.stem = strdup(stem)
    s.suffix = strdup(suffix)
    s.kept = <char **>calloc(files, sizeof(char *))
    return -EIO if s.stem == NULL or s.suffix == NULL or s.kept == NULL else 0


cdef int sink_next(sink_t *s, uint64_t time_ns) noexcept nogil:
    cdef size_t room = strlen(s.stem) + strlen(s.suffix) + 48
    cdef char *name = <char *>malloc(room)
    cdef char[24] stamp
    cdef char **place = &s.kept[s.number % s.files]
    cdef int rc
    if name == NULL:
        s.error = EIO
        return -EIO
    sink_stamp(time_ns, stamp, sizeof(stamp))
    snprintf(name, room, "%s_%05u_%s%s", s.stem, <unsigned int>(s.number + 1), <char *>stamp, s.suffix)
    if s.fd >= 0:
        close(s.fd)
        s.fd = -1
    if place[0] != NULL:                # the oldest goes first: there is never one too many
        unlink(place[0])
        free(place[0])
    place[0] = name
    rc = open_file(s, name)
    if rc < 0:
        s.error = -rc
        return rc
    s.number += 1
    s.whole = 0
    return 0


cdef void fail(sink_t *s, int error, const uint8_t *blocks, size_t length, size_t done, size_t *kept) noexcept nogil:
    """Ends the capture; a torn block is cut off the file."""
    cdef size_t at = 0
    s.error = error
    while at < length and at + get32(blocks + at + 4) <= done:
        at += get32(blocks + at + 4)
    s.whole += at
    s.total += at
    if s.regular and done > at:
        ftruncate(s.fd, <int64_t>s.whole)
    kept[0] = at


cdef bint may_wait(sink_t *s, int *milliseconds) noexcept nogil:
    """Until there is room again; once the capture ends, only so long."""
    cdef uint64_t now
    milliseconds[0] = -1
    if not flag_load(s.stop):
        return True
    now = clock_now_ns()
    if s.patience_until == 0:
        s.patience_until = now + SINK_PATIENCE_MS * <uint64_t>1000000
    if now >= s.patience_until:
        return False
    milliseconds[0] = 1 + <int>((s.patience_until - now) // 1000000)
    return True


cdef int sink_write(sink_t *s, const uint8_t *blocks, size_t length, size_t *kept) noexcept nogil:
    cdef size_t done = 0
    cdef ssize_t n
    cdef int wait = 0
    kept[0] = 0
    if s.error:
        return -s.error
    while done < length:
        if s.socket:
            n = sink_send(s.fd, blocks + done, length - done)
        else:
            n = write(s.fd, blocks + done, length - done)
        if n > 0:
            done += <size_t>n
        elif n < 0 and errno == EINTR:
            continue
        elif n < 0 and errno == EAGAIN and may_wait(s, &wait):
            if sink_poll(s.fd, POLLOUT, s.wake_fd, wait) & 1:
                wake_clear(s.wake_fd)
        else:
            fail(s, EIO if n == 0 else EPIPE if errno == EAGAIN else errno, blocks, length, done, kept)
            return -s.error
    s.whole += length
    s.total += length
    kept[0] = length
    return 0


cdef int sink_idle(sink_t *s, int milliseconds) noexcept nogil:
    cdef int found = sink_poll(s.fd if s.stream and not s.error else -1, 0, s.wake_fd, milliseconds)
    if found & 1:
        wake_clear(s.wake_fd)
    if found & 2:
        s.error = EPIPE
        return -EPIPE
    return 0


cdef int sink_close(sink_t *s) noexcept nogil:
    cdef uint32_t i
    if s.fd >= 0 and close(s.fd) < 0 and s.error == 0 and errno != EINTR:
        s.error = errno
    if s.kept != NULL:
        for i in range(s.files):
            free(s.kept[i])
    free(s.kept)
    free(s.stem)
    free(s.suffix)
    memset(&s.kept, 0, sizeof(s.kept))
    s.stem = s.suffix = NULL
    s.fd = -1
    return -s.error
