# Feeds a capture, frame by frame.
from netstack.replay.watch cimport play_t

cdef enum play_code:
    PLAY_DONE = 0
    PLAY_MAIL = 1               # the control plane has a message: let it work, then call evaluate

# Goes on until the end, or until there is mail on account of the frame that was just fed.
cdef int play_some(play_t *p) noexcept nogil
# What came of the frame that was fed, against what was due; then the next one's turn.
cdef void evaluate(play_t *p) noexcept nogil
