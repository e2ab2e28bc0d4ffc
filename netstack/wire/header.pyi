from typing_extensions import disjoint_base

@disjoint_base
class WireHeader:
    def write(self, out: bytearray | memoryview) -> int: ...
