"""What a capture says of a TCP conversation: both streams put together, and how it began and ended."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memmove, memset

from netstack.replay.trace cimport FRAME_CUT, FRAME_OFFLOAD, FRAME_WRONG_SUM, RESULT_RESETS, frame_t
from netstack.wire.tcp cimport TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN

cdef enum:
    MAX_PIECES = 65536              # out of order in one direction

cdef uint64_t FAR = <uint64_t>1 << 31   # no segment lies further from its stream's end


cdef int reserve(stream_t *s, uint64_t length) noexcept nogil:
    cdef uint64_t room = s.room if s.room else 4096
    cdef void *memory
    if length <= s.room:
        return 0
    while room < length:
        room += room // 2
    memory = realloc(s.data, room)
    if memory == NULL:
        return -1
    s.data = <uint8_t *>memory
    s.room = room
    return 0


cdef int append(stream_t *s, const uint8_t *data, uint32_t length) noexcept nogil:
    if reserve(s, s.length + length) < 0:
        return -1
    if length:
        memcpy(s.data + s.length, data, length)
    s.length += length
    return 0


cdef int stream_add(stream_t *s, uint64_t at, const uint8_t *data, uint32_t length) noexcept nogil:
    """Bytes at an offset, of which the first to come count. 0, -1 without memory."""
    cdef uint64_t skip
    cdef uint32_t i
    cdef void *memory
    if length == 0 or at > s.length + FAR:
        return 0                        # before the stream, or from nowhere
    if at <= s.length:
        skip = s.length - at
        if skip > length:
            skip = length
        if skip and not plug(s, at, data, skip) and memcmp(s.data + at, data, skip) != 0:
            s.overlap = 1
        if skip == length:
            return 0
        if append(s, data + skip, length - <uint32_t>skip) < 0:
            return -1
        return settle(s)
    if s.n == MAX_PIECES:
        return 0
    if s.n == s.n_room:
        memory = realloc(s.pieces, (s.n_room * 2 + 16) * sizeof(piece_t))
        if memory == NULL:
            return -1
        s.pieces = <piece_t *>memory
        s.n_room = s.n_room * 2 + 16
    i = s.n
    while i > 0 and s.pieces[i - 1].at > at:
        i -= 1
    memmove(&s.pieces[i + 1], &s.pieces[i], (s.n - i) * sizeof(piece_t))
    s.pieces[i].at = at
    s.pieces[i].data = data
    s.pieces[i].length = length
    s.n += 1
    return 0


cdef bint plug(stream_t *s, uint64_t at, const uint8_t *data, uint64_t length) noexcept nogil:
    """Bytes that come late take the place of the zeros that stood for them; True where any did."""
    cdef uint32_t i
    cdef uint64_t begin, end, hole_end
    cdef bint any = False
    for i in range(s.n_holes):
        hole_end = s.holes[i].at + s.holes[i].length
        begin = at if at > s.holes[i].at else s.holes[i].at
        end = at + length if at + length < hole_end else hole_end
        if begin >= end:
            continue
        any = True
        memcpy(s.data + begin, data + (begin - at), end - begin)
        if begin == s.holes[i].at:
            s.missing -= end - begin
            s.holes[i].at = end
            s.holes[i].length = <uint32_t>(hole_end - end)
        elif end == hole_end:
            s.missing -= end - begin
            s.holes[i].length = <uint32_t>(begin - s.holes[i].at)
    return any


cdef int settle(stream_t *s) noexcept nogil:
    """Takes in what is in order now."""
    cdef piece_t p
    cdef uint64_t skip
    cdef uint32_t taken = 0
    while taken < s.n and s.pieces[taken].at <= s.length:
        p = s.pieces[taken]
        taken += 1
        skip = s.length - p.at
        if memcmp(s.data + p.at, p.data, skip if skip < p.length else p.length) != 0:
            s.overlap = 1
        if skip < p.length and append(s, p.data + skip, p.length - <uint32_t>skip) < 0:
            return -1
    if taken:
        s.n -= taken
        memmove(s.pieces, s.pieces + taken, s.n * sizeof(piece_t))
    if s.fin_known and s.length >= s.fin_at:
        s.ended = 1
    return 0


cdef int stream_fill(stream_t *s, uint64_t until) noexcept nogil:
    """What is missing before an offset becomes zeros."""
    cdef uint64_t end
    cdef void *memory
    while s.length < until:
        end = until
        if s.n and s.pieces[0].at < end:
            end = s.pieces[0].at
        if reserve(s, end) < 0:
            return -1
        memset(s.data + s.length, 0, end - s.length)
        if s.n_holes == s.holes_room:
            memory = realloc(s.holes, (s.holes_room * 2 + 4) * sizeof(piece_t))
            if memory == NULL:
                return -1
            s.holes = <piece_t *>memory
            s.holes_room = s.holes_room * 2 + 4
        s.holes[s.n_holes].at = s.length
        s.holes[s.n_holes].length = <uint32_t>(end - s.length)
        s.n_holes += 1
        s.missing += end - s.length
        s.length = end
        if settle(s) < 0:
            return -1
    return settle(s)


cdef void stream_fin(stream_t *s, uint64_t at) noexcept nogil:
    if at > s.length + FAR:
        return
    s.fin_known = 1
    s.fin_at = at
    if s.length >= at:
        s.ended = 1


cdef void stream_free(stream_t *s) noexcept nogil:
    free(s.data)
    free(s.pieces)
    free(s.holes)
    s.holes = NULL
    s.data = NULL
    s.pieces = NULL


cdef int flow_segment(flow_t *w, frame_t *f, bint up) noexcept nogil:
    cdef stream_t *mine = &w.up if up else &w.down
    cdef stream_t *other = &w.down if up else &w.up
    cdef uint32_t first
    cdef uint64_t at, acked
    if f.flags & FRAME_CUT:
        w.facts |= FACT_CUT
    if f.flags & FRAME_OFFLOAD:
        w.facts |= FACT_OFFLOAD
    if f.flags & FRAME_WRONG_SUM:
        w.facts |= FACT_WRONG_SUM
        f.extent = w.down.length
        return 0                        # whoever gets it throws it away
    if w.facts & (FACT_RESET_UP | FACT_RESET_DOWN):
        f.extent = w.down.length
        return 0
    if up and f.has_timestamps and not f.tcp_flags & TCP_SYN:
        w.later_ts = 1
    if up and w.facts & FACT_DATA_IN_SYN and not f.tcp_flags & (TCP_SYN | TCP_RST) and f.seq != w.iss_up + 1:
        w.facts |= FACT_TFO             # it goes on behind the data of its SYN
    if f.tcp_flags & TCP_SYN and not f.tcp_flags & TCP_RST:
        note_syn(w, f, up)
    elif up and not w.know_up:
        w.iss_up, w.know_up = f.seq - 1, 1
    elif not up and not w.know_down and not f.tcp_flags & TCP_RST:
        w.iss_down, w.know_down = f.seq - 1, 1
        w.facts |= FACT_GUESSED
    if f.tcp_flags & TCP_ACK and up and not w.know_down:
        w.iss_down, w.know_down = f.ack - 1, 1
        w.facts |= FACT_GUESSED
    if f.tcp_flags & TCP_RST:
        note_reset(w, f, up)
        f.extent = w.down.length
        return 0
    first = (w.iss_up if up else w.iss_down) + 1
    at = offset_of(mine.length, first, f.seq + (1 if f.tcp_flags & TCP_SYN else 0))
    # after its FIN a side has nothing to say
    if not mine.ended and f.payload_length and stream_add(mine, at, f.payload, f.payload_length) < 0:
        return -1
    if f.tcp_flags & TCP_FIN:
        stream_fin(mine, at + f.payload_length)
    if f.tcp_flags & TCP_ACK and (w.know_down if up else w.know_up):
        first = (w.iss_down if up else w.iss_up) + 1
        acked = offset_of(other.length, first, f.ack)
        if other.fin_known and acked == other.fin_at + 1:
            acked -= 1
            if up:
                w.facts |= FACT_FIN_ACKED_UP
        if acked > other.length and acked - other.length < FAR:
            if up:                      # the guest had them: it was the capture that missed them
                if stream_fill(other, acked) < 0:
                    return -1
            elif not w.facts & FACT_MIDDLE:
                w.facts |= FACT_HOLE_UP
    if mine.overlap or other.overlap:
        w.facts |= FACT_OVERLAP
    if w.up.ended:
        w.facts |= FACT_FIN_UP
    if w.down.ended:
        w.facts |= FACT_FIN_DOWN
    f.extent = w.down.length
    w.up_due = w.up.length
    return 0


cdef void note_syn(flow_t *w, const frame_t *f, bint up) noexcept nogil:
    if up:
        if not w.facts & FACT_SYN_UP:
            w.iss_up, w.know_up = f.seq, 1
        w.facts |= FACT_SYN_UP
        if f.payload_length and not f.tcp_flags & TCP_ACK:
            w.facts |= FACT_DATA_IN_SYN
        if w.facts & FACT_INBOUND and not f.tcp_flags & TCP_ACK:
            w.facts |= FACT_SIMULTANEOUS
        return
    if w.facts & FACT_SYN_DOWN and f.seq != w.iss_down:
        return
    if not w.facts & FACT_SYN_DOWN:
        w.iss_down, w.know_down = f.seq, 1
        w.peer_wscale_on = f.wscale >= 0
        w.peer_ts_on = f.has_timestamps
        w.peer_sack_on = f.sack_permitted
        w.peer_tsval = f.tsval
        w.peer_tsval_ns = f.time_ns
        w.peer_has_tsval = f.has_timestamps
        if not f.tcp_flags & TCP_ACK and w.facts & FACT_SYN_UP:
            w.facts |= FACT_SIMULTANEOUS
    if f.tcp_flags & TCP_ACK and w.facts & FACT_DATA_IN_SYN and f.ack != w.iss_up + 1:
        w.facts |= FACT_TFO
    w.facts |= FACT_SYN_DOWN


cdef void note_reset(flow_t *w, frame_t *f, bint up) noexcept nogil:
    """A reset counts where its receiver must take it (RFC 9293 3.10.7, RFC 5961 3.2)."""
    cdef uint64_t at
    if up:
        at = offset_of(w.up.length, w.iss_up + 1, f.seq)
        if not w.facts & FACT_MIDDLE and (at == w.up.length or (w.up.ended and at == w.up.length + 1)):
            w.facts |= FACT_RESET_UP
            f.result |= RESULT_RESETS
        return
    if w.facts & FACT_SYN_UP and not w.facts & FACT_SYN_DOWN and not w.facts & FACT_INBOUND:
        if f.tcp_flags & TCP_ACK and offset_of(w.up.length, w.iss_up + 1, f.ack) <= w.up.length:
            w.facts |= FACT_RESET_DOWN      # refused
            f.result |= RESULT_RESETS
        return
    at = offset_of(w.down.length, w.iss_down + 1, f.seq)
    if at == w.down.length or (w.down.ended and at == w.down.length + 1):
        w.facts |= FACT_RESET_DOWN
        f.result |= RESULT_RESETS
