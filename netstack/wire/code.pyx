"""The result codes of every parser and writer, and the exception they become in Python."""

from netstack.errors import WireError

cdef tuple NAMES = (
    "ok",
    "truncated",
    "bad version",
    "bad length",
    "bad checksum",
    "bad option",
    "bad value",
    "no room",
    "compression loop",
    "unsupported",
)


cpdef str code_name(int code):
    """The name of a ``wire_code`` in words; any number of bytes (>= 0) is ``"ok"``."""
    if code >= 0:
        return "ok"
    if code < WIRE_UNSUPPORTED:
        return f"unknown wire code {code}"
    return <str>NAMES[-code]


cdef int raise_wire(int code) except -1:
    if code < 0:
        raise WireError(code, code_name(code))
    return code
