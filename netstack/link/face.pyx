"""The Python face of any link: for tests, and for programs that want frames without an engine."""
from netstack.host.sockets cimport iovec
from netstack.link.link cimport link_frame, link_t
from netstack.storage.frame cimport frame_meta

cdef enum:
    MAX_IOV = 8


cdef class Link:
    """A link as a Python object: it owns the descriptors. Metadata is a tuple of the six numbers of frame_meta.

    Not made by itself: TapLink, StreamLink and DatagramLink are.
    """

    def __dealloc__(self):
        self.close()

    cdef link_t *opened(self) except NULL:
        if self.link == NULL:
            raise ValueError("the link is closed")
        return self.link

    def fileno(self) -> int:
        """The descriptor that frames are read from."""
        return self.opened().fd

    @property
    def features(self) -> int:
        """LINK_* bits."""
        return self.opened().features

    def recv(self):
        """(frame, meta), None when no frame waits; ConnectionError when the other side is gone or breaks the
        protocol."""
        cdef link_t *link = self.opened()
        cdef link_frame f
        cdef int rc
        with nogil:
            rc = link.recv(link, &f)
        if rc == 0:
            return None
        if rc < 0:
            raise ConnectionError("the link has ended")
        return <bytes>f.data[:f.length], (
            f.meta.csum, f.meta.gso_type, f.meta.gso_size, f.meta.hdr_len, f.meta.csum_start, f.meta.csum_offset)

    def send(self, pieces, meta=(0, 0, 0, 0, 0, 0)) -> int:
        """Takes one frame gathered from 1..8 bytes objects: LINK_OK 0, LINK_AGAIN -1, LINK_CLOSED -2,
        LINK_BAD_FRAME -3, LINK_ABSENT -4."""
        cdef link_t *link = self.opened()
        cdef frame_meta m
        cdef iovec iov[MAX_IOV]
        cdef bytes piece
        cdef int i, rc, n = <int>len(pieces)
        if not 1 <= n <= MAX_IOV:
            raise ValueError("1 to 8 pieces")
        m.csum, m.gso_type, m.gso_size, m.hdr_len, m.csum_start, m.csum_offset = meta
        for i, piece in enumerate(pieces):
            iov[i].iov_base = <char *>piece
            iov[i].iov_len = len(piece)
        with nogil:
            rc = link.send(link, &m, iov, n)
        return rc

    def room(self) -> int:
        """Frames of the MTU's size that send would take now."""
        cdef link_t *link = self.opened()
        return link.room(link)

    def flush(self) -> int:
        """Pushes out what send has taken: LINK_OK 0, LINK_AGAIN -1, LINK_CLOSED -2."""
        cdef link_t *link = self.opened()
        cdef int rc
        with nogil:
            rc = link.flush(link)
        return rc

    def stats(self) -> dict:
        """The link's counters."""
        cdef link_t *link = self.opened()
        return {"rx_frames": link.rx_frames, "rx_bytes": link.rx_bytes, "tx_frames": link.tx_frames,
                "tx_bytes": link.tx_bytes, "tx_full": link.tx_full, "rx_bad": link.rx_bad, "tx_lost": link.tx_lost}

    def close(self) -> None:
        """Closes the descriptors and frees the link; harmless the second time."""
        if self.link != NULL:
            self.link.close(self.link)
            self.link = NULL
