"""The names of all counters, for the Python side."""

NAMES = tuple(
    name.lower() for name, member in sorted(counter.__members__.items(), key=lambda item: int(item[1]))
    if name != "COUNTERS"
)
