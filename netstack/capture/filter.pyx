"""pcap-filter expressions: compiled by libpcap where the system has it, run without it.

libpcap translates; the program it makes is copied out, checked and interpreted here, without the GIL and
without a call into the library.

Sources: McCanne and Jacobson, "The BSD Packet Filter" (1993) for the machine; pcap-filter(7) for the language.
"""

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from netstack.errors import ConfigError
from netstack.wire.be cimport be16, be32

cdef enum:
    WORDS = 16                  # of scratch memory
    MAX_STEPS = 4096
    MAX_FRAME = 262144

cdef enum:                      # the parts of an instruction's code
    CLASS = 0x07
    LD = 0x00
    LDX = 0x01
    ST = 0x02
    STX = 0x03
    ALU = 0x04
    JMP = 0x05
    RET = 0x06
    MISC = 0x07
    SIZE = 0x18
    WORD = 0x00
    HALF = 0x08
    BYTE = 0x10
    MODE = 0xe0
    IMM = 0x00
    ABS = 0x20
    IND = 0x40
    MEM = 0x60
    LEN = 0x80
    MSH = 0xa0
    OPERATION = 0xf0
    SOURCE_X = 0x08
    RET_A = 0x10
    TXA = 0x80


cdef inline bint load(
    const uint8_t *data, uint32_t captured, uint64_t at, uint16_t size, uint32_t *out
) noexcept nogil:
    cdef uint32_t n = 4 if size == WORD else 2 if size == HALF else 1
    if at + n > captured:
        return False
    if size == WORD:
        out[0] = be32(data + at)
    elif size == HALF:
        out[0] = be16(data + at)
    else:
        out[0] = data[at]
    return True


cdef bint compute(uint16_t operation, uint32_t *a, uint32_t b) noexcept nogil:
    """False where the program ends: a division by zero."""
    if operation == 0x00:
        a[0] += b
    elif operation == 0x10:
        a[0] -= b
    elif operation == 0x20:
        a[0] *= b
    elif operation == 0x30:
        if b == 0:
            return False
        a[0] //= b
    elif operation == 0x40:
        a[0] |= b
    elif operation == 0x50:
        a[0] &= b
    elif operation == 0x60:
        a[0] = a[0] << b if b < 32 else 0
    elif operation == 0x70:
        a[0] = a[0] >> b if b < 32 else 0
    elif operation == 0x80:
        a[0] = <uint32_t>0 - a[0]
    elif operation == 0x90:
        if b == 0:
            return False
        a[0] %= b
    else:
        a[0] ^= b
    return True


cdef uint32_t bpf_run(
    const bpf_step *program, const uint8_t *data, uint32_t captured, uint32_t length
) noexcept nogil:
    cdef uint32_t a = 0, x = 0, b
    cdef uint32_t memory[WORDS]
    cdef const bpf_step *s = program
    cdef uint16_t kind, mode
    cdef bint yes
    memset(memory, 0, sizeof(memory))
    while True:
        kind = s.code & CLASS
        if kind == LD:
            mode = s.code & MODE
            if mode == ABS:
                if not load(data, captured, s.k, s.code & SIZE, &a):
                    return 0
            elif mode == IND:
                if not load(data, captured, <uint64_t>x + s.k, s.code & SIZE, &a):
                    return 0
            elif mode == MEM:
                a = memory[s.k]
            else:
                a = length if mode == LEN else s.k
        elif kind == JMP:
            if s.code & OPERATION == 0:
                s += s.k
            else:
                b = x if s.code & SOURCE_X else s.k
                if s.code & OPERATION == 0x10:
                    yes = a == b
                elif s.code & OPERATION == 0x20:
                    yes = a > b
                elif s.code & OPERATION == 0x30:
                    yes = a >= b
                else:
                    yes = (a & b) != 0
                s += s.jt if yes else s.jf
        elif kind == RET:
            return a if s.code & RET_A else s.k
        elif kind == ALU:
            if not compute(s.code & OPERATION, &a, x if s.code & SOURCE_X else s.k):
                return 0
        elif kind == LDX:
            mode = s.code & MODE
            if mode == MSH:
                if s.k >= captured:
                    return 0
                x = (data[s.k] & 0x0f) << 2
            elif mode == MEM:
                x = memory[s.k]
            else:
                x = length if mode == LEN else s.k
        elif kind == ST:
            memory[s.k] = a
        elif kind == STX:
            memory[s.k] = x
        elif s.code & 0xf8 == TXA:
            a = x
        else:
            x = a
        s += 1


cdef bint sound(const bpf_step *program, int n) noexcept nogil:
    """Jumps lead forwards and stay inside, memory exists, operations are known, and the last step returns."""
    cdef int i
    cdef uint16_t kind, part
    cdef const bpf_step *s
    cdef uint64_t left
    for i in range(n):
        s = &program[i]
        kind = s.code & CLASS
        part = s.code & OPERATION
        left = <uint64_t>(n - i - 1)
        if s.code > 0xff:
            return False
        if kind == LD or kind == LDX:
            part = s.code & MODE
            if part > MSH or s.code & SIZE == SIZE or kind == LD and part == MSH:
                return False
            if kind == LDX and (part == ABS or part == IND):
                return False
            if part == MEM and s.k >= WORDS:
                return False
        elif kind == ST or kind == STX:
            if s.k >= WORDS:
                return False
        elif kind == ALU:
            if part > 0xa0:
                return False
        elif kind == JMP:
            if part > 0x40:
                return False
            if part == 0 and s.k >= left or part and (s.jt >= left or s.jf >= left):
                return False
    return n > 0 and program[n - 1].code & CLASS == RET


def _library():
    """(libpcap with the functions that are called declared, its type of a program); ConfigError where there is none."""
    import ctypes       # which costs the start of whoever filters nothing
    import ctypes.util

    class Instruction(ctypes.Structure):
        _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32))

    class Program(ctypes.Structure):
        _fields_ = (("bf_len", ctypes.c_uint), ("bf_insns", ctypes.POINTER(Instruction)))

    for name in ("libpcap.so.1", "libpcap.so.0.8", "libpcap.dylib", None):
        name = name or ctypes.util.find_library("pcap")     # runs other programs, so only where it must
        try:
            library = ctypes.CDLL(name) if name else None
        except OSError:
            library = None
        if library is None:
            continue
        library.pcap_open_dead.restype = ctypes.c_void_p
        library.pcap_open_dead.argtypes = (ctypes.c_int, ctypes.c_int)
        library.pcap_compile.argtypes = (
            ctypes.c_void_p, ctypes.POINTER(Program), ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32)
        library.pcap_geterr.restype = ctypes.c_char_p
        library.pcap_geterr.argtypes = (ctypes.c_void_p,)
        library.pcap_freecode.argtypes = (ctypes.POINTER(Program),)
        library.pcap_close.argtypes = (ctypes.c_void_p,)
        return library, Program
    raise ConfigError("a filter needs libpcap: install it (libpcap0.8 on Debian and Ubuntu), or leave the filter out")


# DLT_RAW is 12 to pcap_open_dead where the file says 101 (LINKTYPE_RAW).
cdef dict DLT = {101: 12}
cdef uint32_t NO_NETMASK = 0xffffffff


@cython.final
@cython.auto_pickle(False)
cdef class Filter:
    """A pcap-filter expression for frames of one link type.

    Args:
        expression: as in ``tcp port 80 and not host 10.0.0.1`` (pcap-filter(7)); an empty one lets all pass.
        link_type: of the frames, by the pcap registry.

    Raises:
        ConfigError: libpcap is not installed, or does not accept the expression.
    """

    def __cinit__(self, str expression, int link_type=1):
        cdef int i, n
        import ctypes
        library, Program = _library()
        self.expression = expression
        self.link_type = link_type
        handle = library.pcap_open_dead(DLT.get(link_type, link_type), 262144)
        if not handle:
            raise MemoryError()
        compiled = Program()
        try:
            if "\0" in expression or library.pcap_compile(
                handle, ctypes.byref(compiled), expression.encode(), 1, NO_NETMASK
            ) < 0:
                why = (library.pcap_geterr(handle) or b"").decode(errors="replace")
                raise ConfigError(f"filter {expression!r} cannot be used: {why or 'it has a NUL byte'}")
            n = compiled.bf_len
            self.program = <bpf_step *>malloc((n if n else 1) * sizeof(bpf_step))
            if self.program == NULL:
                raise MemoryError()
            for i in range(n):
                step = compiled.bf_insns[i]
                self.program[i].code = step.code
                self.program[i].jt = step.jt
                self.program[i].jf = step.jf
                self.program[i].k = step.k
            library.pcap_freecode(ctypes.byref(compiled))
        finally:
            library.pcap_close(handle)
        if n > MAX_STEPS or not sound(self.program, n):
            raise ConfigError(f"filter {expression!r} cannot be used: libpcap makes of it what only a kernel runs")

        self.n = n
        self.reach = self._reach()

    def __dealloc__(self):
        free(self.program)

    cdef uint32_t _reach(self):
        """Bytes of a frame that the program looks at, at most; what it loads relative to X lies behind an IP header."""
        cdef uint32_t reach = 0, end
        cdef bint bounded = True        # X is nothing but the length of an IP header
        cdef int i
        cdef const bpf_step *s
        for i in range(self.n):
            s = &self.program[i]
            if s.code & CLASS == LDX and s.code & MODE != MSH or s.code & CLASS == MISC and s.code & 0xf8 != TXA:
                bounded = False
        for i in range(self.n):
            s = &self.program[i]
            if s.code & CLASS == LD and (s.code & MODE == ABS or s.code & MODE == IND) or \
                    s.code & CLASS == LDX and s.code & MODE == MSH:
                if s.k > MAX_FRAME or s.code & MODE == IND and not bounded:
                    return MAX_FRAME
                end = s.k + 4 + (60 if s.code & MODE == IND else 0)
                reach = end if end > reach else reach
        return reach

    cdef bpf_step *copy(self) except NULL:
        """The program once more, the caller's to free."""
        cdef bpf_step *copied = <bpf_step *>malloc(self.n * sizeof(bpf_step))
        if copied == NULL:
            raise MemoryError()
        memcpy(copied, self.program, self.n * sizeof(bpf_step))
        return copied

    def passes(self, const uint8_t[::1] frame, length=None):
        """Does a frame pass? length is that on the wire, where it is more than is given."""
        cdef uint32_t captured = <uint32_t>frame.shape[0]
        cdef uint32_t on_wire = captured if length is None else length
        return bpf_run(self.program, &frame[0] if captured else NULL, captured, on_wire) != 0
