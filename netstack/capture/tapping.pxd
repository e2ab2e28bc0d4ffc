# The engine's side of a capture.
from netstack.capture.tap cimport tap_t

# Gives a recorder's tap its functions.
cdef void tap_fill(tap_t *tap) noexcept nogil
