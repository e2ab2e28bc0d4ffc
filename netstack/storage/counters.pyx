"""The names of all counters, for the Python side."""

NAMES = tuple(
    name.lower() for name in sorted(counter.__members__, key=lambda name: int(counter.__members__[name]))
    if name != "COUNTERS"
)
