# Header columns of plain frames, filled column by column straight from the bytes of the file.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from netstack.capture.records cimport frame_record

cdef enum:
    BATCH = 64                      # frames that are read at a time: what is held of them stays in the nearest cache
    PLAIN_SHAPES = 4                # TCP and UDP over IPv4, TCP and UDP over IPv6

cdef enum plain_source:             # where a column of a plain frame comes from
    FROM_NOWHERE = 0                # no frame of the shape has it: 0
    FROM_VALUE = 1                  # the same for every frame of the shape
    FROM_U8 = 2
    FROM_BE16 = 3
    FROM_BE32 = 4
    FROM_BE48 = 5
    FROM_BE64_TWICE = 6
    FROM_LAYERS = 7                 # what plain_shape found
    FROM_PAYLOAD = 8

ctypedef struct plain_op:
    uint8_t source                  # plain_source
    uint8_t at                      # bytes into the frame
    uint8_t shift                   # to the right
    uint16_t mask                   # then
    uint16_t value

ctypedef struct plain_batch:        # the plain frames among those at hand
    int count[PLAIN_SHAPES]
    const uint8_t *data[PLAIN_SHAPES][BATCH]
    uint32_t layers[PLAIN_SHAPES][BATCH]
    uint32_t payload[PLAIN_SHAPES][BATCH]
    uint8_t row[PLAIN_SHAPES][BATCH]

# Adds a frame as row of the batch where it is plain; false where it is not.
cdef bint plain_add(plain_batch *b, const frame_record *frame, int row) noexcept nogil
# Fills in a column of the frames of one shape: out is its value for row 0, size bytes of each.
cdef void plain_fill(
    const plain_batch *b, int shape, const plain_op *op, uint32_t size, uint8_t *out, int rows
) noexcept nogil
