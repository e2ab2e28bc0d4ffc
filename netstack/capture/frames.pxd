# One frame's headers, read into a fields_t as far as is wanted.
from netstack.capture.fields cimport fields_t
from netstack.capture.records cimport frame_record

# Any bytes are allowed: what does not fit is LAYER_MALFORMED, and what is not there stays 0. want: WANT_* bits.
cdef void frame_dissect(const frame_record *frame, int want, fields_t *f) noexcept nogil
