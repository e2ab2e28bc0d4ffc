"""Which names of a folder have changed, told by the kernel (inotify(7), Linux)."""
from libc.errno cimport EINTR, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport strlen

cdef extern from * nogil:
    """
    #include <errno.h>
    #include <stdint.h>
    #include <unistd.h>
    #ifdef __linux__
    #include <sys/inotify.h>
    static int host_inotify(void) { return inotify_init1(IN_NONBLOCK | IN_CLOEXEC); }
    static int host_watch(int fd, const char *path) {
        return inotify_add_watch(fd, path, IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE
            | IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR);
    }
    #else
    struct inotify_event { int wd; uint32_t mask, cookie, len; char name[1]; };
    static int host_inotify(void) { errno = ENOSYS; return -1; }
    static int host_watch(int fd, const char *path) { (void)fd; (void)path; errno = ENOSYS; return -1; }
    #endif
    """
    ctypedef struct inotify_event "struct inotify_event":
        int wd
        uint32_t len
        const char *name
    int host_inotify()
    int host_watch(int fd, const char *path)
    ssize_t read(int fd, void *buffer, size_t length)
    int close(int fd)

cdef enum:
    WORDS = 512                 # of 8 bytes: a name is at most 255 bytes, so one event always fits


cdef class Folders:
    """Watches folders for names that appear, go, or change in content or attributes.

    Attributes:
        fd: readable when there is something for :meth:`read`; closed with the object.

    Raises:
        OSError: ENOSYS where the system has no inotify, EMFILE where a user may have no more of them.
    """

    cdef readonly int fd

    def __cinit__(self):
        self.fd = host_inotify()
        if self.fd < 0:
            raise OSError(errno, "inotify is not to be had")

    def __dealloc__(self):
        self.close()

    def close(self):
        """Ends it; harmless when called again."""
        if self.fd >= 0:
            close(self.fd)
            self.fd = -1

    def add(self, path):
        """Watches a folder as well; the number that stands for it in :meth:`read`, the same when it is given again.

        Raises:
            OSError: there is no such folder, it may not be read, or the user may watch no more of them.
        """
        cdef bytes name = path.encode("utf-8", "surrogateescape")
        cdef int wd = host_watch(self.fd, name)
        if wd < 0:
            raise OSError(errno, "cannot be watched", path)
        return wd

    def read(self):
        """What has changed since the last call, at once: a set of (number, name); the name of the folder itself is "".

        A set with ``(-1, "")`` says that events were lost: anything may have changed.
        """
        cdef uint64_t[WORDS] buffer   # aligned as its events are
        cdef inotify_event *event
        cdef ssize_t n, at
        cdef set out = set()
        while self.fd >= 0:
            n = read(self.fd, buffer, sizeof(buffer))
            if n <= 0:
                if n < 0 and errno == EINTR:
                    continue
                break
            at = 0
            while at + <ssize_t>sizeof(inotify_event) <= n:
                event = <inotify_event *>(<char *>buffer + at)
                name = (<char *>event.name)[:strlen(event.name)] if event.len else b""
                out.add((event.wd, (<bytes>name).decode("utf-8", "surrogateescape")))
                at += <ssize_t>sizeof(inotify_event) + event.len
        return out
