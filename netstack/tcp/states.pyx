"""The state diagram of RFC 9293 section 3.3.2 as one table, shared by the code, the tests and the picture in
the docs.

``STATES`` names the states by number. ``TRANSITIONS`` lists ``(source, target, reason)`` with state names, in
the order of a connection's life. Where one segment moves a connection twice (an ACK of our FIN together with
the peer's FIN), both lines are taken, one after the other; a CLOSE in SYN-RECEIVED waits for ESTABLISHED, as
section 3.10.4 says of queued data. The C side asks :c:func:`tcp_transition_allowed`, which reads the same
lines.
"""
from libc.stdint cimport uint8_t

cdef extern from *:
    """
    typedef struct { unsigned char source, target; const char *reason; } tcp_transition;
    static const tcp_transition tcp_transitions[] = {
        {0, 1, "SYN arrives for a passive open (SYN-ACK held back until the host is connected)"},
        {0, 2, "active OPEN: SYN sent"},
        {1, 3, "the user confirms: SYN-ACK sent"},
        {1, 0, "RST arrives, or the user refuses"},
        {2, 4, "SYN-ACK arrives: ACK sent"},
        {2, 3, "SYN arrives (simultaneous open): SYN-ACK sent"},
        {2, 0, "CLOSE, RST, ICMP error or time-out"},
        {3, 4, "ACK of SYN arrives"},
        {3, 0, "RST, time-out or abort"},
        {4, 5, "CLOSE: FIN sent"},
        {4, 7, "FIN arrives: ACK sent"},
        {4, 0, "RST, time-out or abort"},
        {5, 6, "ACK of FIN arrives"},
        {5, 8, "FIN arrives: ACK sent"},
        {5, 0, "RST, time-out or abort"},
        {6, 10, "FIN arrives: ACK sent"},
        {6, 0, "RST, time-out or abort"},
        {7, 9, "CLOSE: FIN sent"},
        {7, 0, "RST, time-out or abort"},
        {8, 10, "ACK of FIN arrives"},
        {8, 0, "RST, time-out or abort"},
        {9, 0, "ACK of FIN arrives, or RST, time-out or abort"},
        {10, 0, "2 MSL passed, or a new connection takes the ports"},
    };
    static const char *const tcp_state_names[11] = {
        "CLOSED", "LISTEN", "SYN-SENT", "SYN-RECEIVED", "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2",
        "CLOSE-WAIT", "CLOSING", "LAST-ACK", "TIME-WAIT",
    };
    enum { tcp_n_transitions = sizeof tcp_transitions / sizeof *tcp_transitions };
    """
    ctypedef struct tcp_transition:
        uint8_t source
        uint8_t target
        const char *reason
    const tcp_transition *tcp_transitions
    const char *const *tcp_state_names
    int tcp_n_transitions


cdef bint tcp_transition_allowed(uint8_t source, uint8_t target) noexcept nogil:
    cdef int i
    for i in range(tcp_n_transitions):
        if tcp_transitions[i].source == source and tcp_transitions[i].target == target:
            return True
    return False


def _states():
    return tuple(tcp_state_names[i].decode() for i in range(11))


def _transitions():
    cdef int i
    return tuple(
        (tcp_state_names[tcp_transitions[i].source].decode(),
         tcp_state_names[tcp_transitions[i].target].decode(),
         tcp_transitions[i].reason.decode())
        for i in range(tcp_n_transitions)
    )


STATES = _states()
TRANSITIONS = _transitions()


def transition_allowed(source: str, target: str) -> bool:
    """True when the table leads from state ``source`` to state ``target`` (names as in ``STATES``).

    Raises:
        ValueError: no such state.
    """
    return tcp_transition_allowed(STATES.index(source), STATES.index(target))
