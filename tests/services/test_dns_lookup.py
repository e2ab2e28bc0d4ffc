"""Names of the virtual network, looked up by the gateway itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.services.dns_lookup import lookup
from netstack.services.dns_table import DnsTable

TABLE = DnsTable(
    {
        "web.internal": "192.168.65.7",
        "two.internal": ["192.168.65.8", "192.168.65.9"],
        "alias.internal": ("CNAME", "web.internal"),
        "out.internal": ("CNAME", "www.example.org"),
        "six.internal": "2001:db8::1",
        "*.dev.internal": "192.168.65.10",
        "plain": "192.168.65.11",
    },
    zones=("internal",),
)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("web.internal", "192.168.65.7"),
        ("WEB.Internal.", "192.168.65.7"),
        ("web", "192.168.65.7"),
        ("web.", None),
        ("plain", "192.168.65.11"),
        ("two.internal", "192.168.65.8"),
        ("alias", "192.168.65.7"),
        ("a.b.dev.internal", "192.168.65.10"),
        ("out.internal", None),
        ("six.internal", None),
        ("nobody.internal", None),
        ("example.org", None),
        ("", None),
        (".", None),
        ("web..internal", None),
        ("a" * 64, None),
        (".".join(["a" * 63] * 4), None),
        ("wéb", None),
    ],
)
def test_lookup(name: str, address: str | None) -> None:
    assert lookup(TABLE, name, "internal") == address


def test_without_a_domain() -> None:
    assert lookup(TABLE, "web") is None
    assert lookup(DnsTable(), "web.internal", "internal") is None


@given(
    st.one_of(
        st.text(max_size=40),
        st.lists(st.sampled_from(["web", "dev", "internal", "", "x" * 63]), max_size=9).map(".".join),
    )
)
def test_any_text(name: str) -> None:
    found = lookup(TABLE, name, "internal")
    assert found is None or found.startswith("192.168.65.")
