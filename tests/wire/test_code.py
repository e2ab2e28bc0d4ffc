"""The names of the result codes."""

from __future__ import annotations

import pytest

from netstack.errors import NetstackError, WireError
from netstack.wire.code import code_name
from netstack.wire.udp import UDPHeader

NAMES = {
    -1: "truncated",
    -2: "bad version",
    -3: "bad length",
    -4: "bad checksum",
    -5: "bad option",
    -6: "bad value",
    -7: "no room",
    -8: "compression loop",
    -9: "unsupported",
}


@pytest.mark.parametrize(("code", "name"), NAMES.items())
def test_every_code_has_its_name(code: int, name: str) -> None:
    assert code_name(code) == name


def test_a_number_of_bytes_is_ok() -> None:
    assert code_name(0) == code_name(20) == "ok"


def test_unknown_codes_say_so() -> None:
    assert code_name(-10) == "unknown wire code -10"
    assert code_name(-(2**31)).startswith("unknown")


def test_the_exception_carries_code_and_name() -> None:
    with pytest.raises(WireError) as caught:
        UDPHeader.parse(b"")
    assert (caught.value.code, caught.value.name, str(caught.value)) == (-1, "truncated", "truncated")
    assert isinstance(caught.value, NetstackError)
    assert isinstance(caught.value, ValueError)
