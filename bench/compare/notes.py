"""What bounds a bar that is missed, and what was tried: shown on the page where the run misses it."""

WAKE_UPS = (
    "Wake-ups bound it: a round trip wakes engine, server, engine and client in turn, as in every system of user space."
    " The engine's part is seven system calls, and the yardstick is no faster. Looking for events for 30 or 100 µs"
    " before sleeping was tried, and gained nothing on two processors."
)
NOISE = (
    "Other programs shared the two processors while this was measured, and the values of the repetitions lie far"
    " apart: see the table."
)
QUIET_DOWN = " An earlier run on the same machine, quiet, had 1.06 × limit and 12 × the best peer."
SOCKETS = " Each connection makes and closes two more sockets of the host."
HEAPS = (
    "A connection that has been silent for a while keeps no buffer, but a page of the allocator's heaps stays resident"
    " for each that was in use at the same time: 4 KiB for each connection of a burst."
)

NOTES: dict[str, str] = {
    "bulk 1500 up limit": NOISE,
    "bulk 1500 up peer": NOISE,
    "bulk 1500 down limit": NOISE + QUIET_DOWN,
    "bulk 1500 down peer": NOISE + QUIET_DOWN,
    "bulk 65520 up limit": NOISE,
    "bulk 65520 down limit": NOISE,
    "bulk 65520 up peer": NOISE,
    "bulk 65520 down peer": NOISE,
    "16 streams": (
        "Two busy programs beside the engine share two processors, each with 32 sockets; the yardstick loses as much"
        " from one stream to sixteen."
    ),
    "16 streams fair": (
        "Towards the guest the index is above 0.97; from the guest each stream's share is its share of what lies in the"
        " TAP, which without loss is what the guest's congestion windows happen to be."
    ),
    "rr rate": WAKE_UPS,
    "rr p99": WAKE_UPS,
    "connect 1": WAKE_UPS + SOCKETS,
    "connect 32": WAKE_UPS + SOCKETS,
    "udp 64 up": "One read of the TAP for each datagram bounds it: the TAP has no call that reads many.",
    "udp 64 down": "One write to the TAP for each datagram bounds it: the TAP has no call that writes many.",
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
    "start": "Python's start and its imports bound it: 0.13 s of processor time on this machine. " + NOISE,
    "wakeups": (
        "The engine sleeps until something happens. `netstack attach` looks four times a second whether its namespace"
        " is still there."
    ),
}
