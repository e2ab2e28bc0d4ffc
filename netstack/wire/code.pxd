# Return codes of every x_parse and x_write: >= 0 is a number of bytes, < 0 is one of these.
cdef enum wire_code:
    WIRE_OK = 0
    WIRE_TRUNCATED = -1     # fewer bytes are present than the header needs or claims
    WIRE_BAD_VERSION = -2   # IP version, hardware or protocol type is not the one expected
    WIRE_BAD_LENGTH = -3    # a length field contradicts itself (IHL < 5, total < IHL, data offset < 5, ...)
    WIRE_BAD_CHECKSUM = -4
    WIRE_BAD_OPTION = -5    # an option's length is 0, 1 or runs past its list
    WIRE_BAD_VALUE = -6     # a value that the protocol forbids
    WIRE_NO_ROOM = -7       # the output buffer is too small
    WIRE_LOOP = -8          # DNS compression pointer that does not point strictly backwards
    WIRE_UNSUPPORTED = -9   # recognised and refused by name (an 802.1Q tag, a jumbogram)

cpdef str code_name(int code)
# Raises netstack.errors.WireError when code < 0, returns it otherwise.
cdef int raise_wire(int code) except -1
