# The Python face of any link that owns its descriptors.
from netstack.link.link cimport link_t

cdef class Link:
    cdef link_t *link
    cdef link_t *opened(self) except NULL
