# Birth and death of a connection, its state, its memory.
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from netstack.storage.ring cimport ring_t
from netstack.tcp.block cimport tcb_t, tcp_config

# --- life
# iss and the timestamp offset are arguments: nothing here draws randomness.
cdef void tcb_init(tcb_t *t, const tcp_config *config, uint16_t local_port, uint16_t remote_port,
                   uint32_t iss, uint32_t ts_offset) noexcept nogil
# gives all memory back; the struct itself is the user's
cdef void tcb_free(tcb_t *t) noexcept nogil

# --- for the other files of this folder
cdef void set_state(tcb_t *t, uint8_t state) noexcept nogil
# CLOSED at once, memory of the buffers given back. event: what the user is told beside TCP_EV_CLOSED.
cdef uint32_t enter_closed(tcb_t *t, uint32_t event) noexcept nogil
# the memory of what was sent, once nothing of it will be sent again: our FIN is acknowledged, or all is over
cdef void free_sent(tcb_t *t) noexcept nogil
cdef void update_mss(tcb_t *t) noexcept nogil
# Grows a ring to need bytes; beyond the memory limit only where must is true. 0 or -1.
cdef int reserve(tcb_t *t, ring_t *ring, uint32_t need, bint must) noexcept nogil
cdef void shrink(tcb_t *t, ring_t *ring) noexcept nogil
