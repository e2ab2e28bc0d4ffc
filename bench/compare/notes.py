"""What bounds a bar that is missed, and what was tried: shown on the page where the run misses it."""

WAKE_UPS = (
    "Wake-ups bound it: a round trip wakes engine, server, engine and client in turn, as in every system of user space."
    " The engine looks for events for 25 µs before it sleeps, where that has paid of late; 15 and 50 µs gave less or no"
    " more. What is left is the sleep of client and server."
)
NOISE = (
    "The values of the repetitions lie far apart: see the table. Three busy programs share two processors, and where"
    " the scheduler puts them decides as much as what they do."
)
SOCKETS = (
    " Each connection makes and closes two more sockets of the host, with 24 system calls. The yardstick, which makes"
    " the same sockets and has no TCP of its own, is short of the bar as well. Tried: asking a connect to this host at"
    " once whether it is over, instead of waiting for the event, was no faster."
)
HEAPS = (
    "A silent connection keeps no buffer. What is left is its control block (896 bytes for sequence numbers, recovery,"
    " congestion control and NAT), its place in the table of flows (some 35), and what the allocator keeps of the"
    " scoreboards of a burst."
)

NOTES: dict[str, str] = {
    "bulk 1500 up limit": NOISE,
    "bulk 1500 up peer": (
        "The yardstick bounds it: ten times what pasta reached in this run is more than any process did that moves each"
        " byte from the TAP to a socket. pasta's rate varies more than anybody's here."
    ),
    "bulk 1500 down limit": NOISE,
    "bulk 1500 down peer": NOISE,
    "bulk 65520 up limit": NOISE,
    "bulk 65520 down limit": (
        "Alone with the yardstick, in six turns each, it was 0.95 of it, and 0.91 right after a stream up. What waits"
        " for the guest's acknowledgements lies in memory of ours besides the kernel's, and three busy programs share"
        " two processors: where the scheduler puts them decides as much. Send buffers of half the size were slower."
    ),
    "bulk 65520 up peer": NOISE,
    "bulk 65520 down peer": NOISE,
    "16 streams": (
        "32 sockets at each end share two processors with 32 flows, and the ends' own work for a byte grows: the"
        " yardstick, which has no TCP of its own, loses as much. Tried: buffers of 64 KiB, 256 KiB and 1 MiB instead of"
        " 16 MiB for each stream made no difference to the rate."
    ),
    "16 streams fair": (
        "Without loss a stream's share is its share of what lies in the queue of the TAP. Buffers follow the shortest"
        " round trip, so that all come to the same size; a stream that has begun before the others may still have a"
        " larger one."
    ),
    "rr rate": WAKE_UPS,
    "rr p99": WAKE_UPS,
    "connect 1": WAKE_UPS + SOCKETS,
    "connect 32": WAKE_UPS + SOCKETS,
    "udp 64 up": (
        "One read of the TAP for each datagram bounds it: the TAP has no call that reads many. They leave as one"
        " message."
    ),
    "udp 64 down": (
        "The receive queue of the host's socket gives each datagram by itself; they enter the TAP as one super-frame."
    ),
    "cpu 1500 up": NOISE,
    "cpu 1500 down": NOISE,
    "cpu 65520 up": (
        "Both move 64 KiB with two system calls and two copies, which are nine tenths of the time; pasta peeks at its"
        " socket and copies as often."
    ),
    "cpu 65520 down": NOISE,
    "idle bytes 10000": HEAPS,
    "idle bytes 50000": HEAPS,
    "setting up": "The sockets of both ends and of the host are made by three programs on two processors.",
    "start": (
        "Python's start (20 ms) and the imports (60 ms) bound it. Left out of them are inspect and click; the TAP is"
        " taken apart behind the process's end. dataclasses, typing and eighty extension modules remain."
    ),
    "wakeups": "The engine sleeps until something happens.",
}
