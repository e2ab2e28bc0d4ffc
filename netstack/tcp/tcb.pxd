# All that users of this folder cimport. Pure: segments, bytes and now_ns in; segments, bytes and a deadline
# out. There is no module behind this file: the names come from the files that hold them.
from netstack.tcp.block cimport (
    TCP_CC_CUBIC, TCP_CC_NONE, TCP_CC_RENO,
    TCP_EV_ACKED_FIN, TCP_EV_CLOSED, TCP_EV_CONNECTED, TCP_EV_DATA, TCP_EV_FIN, TCP_EV_OUTPUT, TCP_EV_RESET,
    TCP_EV_SPACE,
    TCP_EV_TIMEOUT, TCP_EV_URGENT,
    tcb_t, tcp_config, tcp_congestion, tcp_delivery, tcp_memory, tcp_segment,
)
from netstack.tcp.input cimport tcp_accept, tcp_may_reopen, tcp_segment_arrives
from netstack.tcp.life cimport tcb_free, tcb_init
from netstack.tcp.output cimport tcp_next_segment, tcp_reset_for, tcp_wants_output
from netstack.tcp.path cimport tcp_icmp_error
from netstack.tcp.receive cimport tcp_ack_waits, tcp_consumed, tcp_read_spans, tcp_readable, tcp_take
from netstack.tcp.states cimport (
    TCP_CLOSE_WAIT, TCP_CLOSED, TCP_CLOSING, TCP_ESTABLISHED, TCP_FIN_WAIT_1, TCP_FIN_WAIT_2, TCP_LAST_ACK,
    TCP_LISTEN,
    TCP_SYN_RECEIVED, TCP_SYN_SENT, TCP_TIME_WAIT, tcp_state,
)
from netstack.tcp.timers cimport tcp_deadline, tcp_timeout
from netstack.tcp.user_calls cimport (
    tcp_abort, tcp_close, tcp_established_ok, tcp_open, tcp_stop_reading, tcp_unacked, tcp_urgent,
    tcp_write_spans, tcp_wrote,
)
