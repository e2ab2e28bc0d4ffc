import enum

class counter(enum.IntFlag): ...

NAMES: tuple[str, ...]
