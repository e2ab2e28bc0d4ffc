"""Every exception that netstack raises on purpose."""


class NetstackError(Exception):
    """Base class: the message is one sentence that says what is wrong and what to do."""

    exit_code = 1


class ConfigError(NetstackError, ValueError):
    """A setting that cannot be used; the message names its key."""

    exit_code = 2


class WireError(NetstackError, ValueError):
    """Bytes that are not what they should be.

    ``code`` is the negative ``wire_code`` and ``name`` its name in words.
    """

    def __init__(self, code: int, name: str) -> None:
        super().__init__(name)
        self.code = code
        self.name = name


class SandboxError(NetstackError):
    """A namespace or a TAP device could not be made."""

    exit_code = 125
