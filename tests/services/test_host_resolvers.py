"""What resolvectl and scutil print, in the forms that different releases have."""

import pytest

from netstack.services.host_resolvers import parse_resolvectl, parse_scutil

# systemd 252 with a VPN that knows two zones, and servers that go on over lines
VPN = """\
Global
         Protocols: -LLMNR -mDNS -DNSOverTLS DNSSEC=no/unsupported
  resolv.conf mode: uplink

Link 2 (eth0)
    Current Scopes: DNS
         Protocols: +DefaultRoute -LLMNR -mDNS -DNSOverTLS DNSSEC=no/unsupported
Current DNS Server: 192.0.2.53
       DNS Servers: 192.0.2.53 2001:db8::53
        DNS Domain: home.example

Link 3 (docker0)
    Current Scopes: none
         Protocols: -DefaultRoute -LLMNR -mDNS -DNSOverTLS DNSSEC=no/unsupported

Link 7 (tun0)
    Current Scopes: DNS
         Protocols: -DefaultRoute -LLMNR -mDNS -DNSOverTLS DNSSEC=no/unsupported
Current DNS Server: 10.8.0.1
       DNS Servers: 10.8.0.1 10.8.0.2:5353
                    [2001:db8:8::1]:53 10.8.0.3#dns.corp.example
        DNS Domain: corp.example ~8.10.in-addr.arpa
                    ~lab.example
"""

# systemd 245: a domain or server a line, and the old words for a default route
OLD = """\
Global
       LLMNR setting: no
MulticastDNS setting: no
  DNSOverTLS setting: no
      DNSSEC setting: no
         DNS Servers: 192.0.2.1
          DNSSEC NTA: 10.in-addr.arpa
                      16.172.in-addr.arpa

Link 5 (wg0)
      Current Scopes: DNS
DefaultRoute setting: yes
       LLMNR setting: yes
  Current DNS Server: 10.9.0.1
         DNS Servers: 10.9.0.1
                      fe80::1%wg0
          DNS Domain: ~.

Link 2 (eth0)
      Current Scopes: DNS
DefaultRoute setting: yes
         DNS Servers: 192.0.2.53
          DNS Domain: home.example
"""

# systemd 252.39, word for word: the global lists have no colon
GLOBAL = """\
Global
       Protocols: -LLMNR -mDNS -DNSOverTLS DNSSEC=no/unsupported
resolv.conf mode: foreign
      DNS Servers 192.0.2.1
       DNS Domain ~office.example

Link 3 (eth9)
Current Scopes: DNS
     Protocols: +DefaultRoute +LLMNR -mDNS -DNSOverTLS DNSSEC=no/unsupported
   DNS Servers: 192.0.2.53

Link 5 (vpn0)
Current Scopes: DNS
     Protocols: -DefaultRoute +LLMNR -mDNS -DNSOverTLS DNSSEC=no/unsupported
   DNS Servers: 10.8.0.1 10.8.0.7:5353
    DNS Domain: corp.example ~lab.example
"""

MAC = """\
DNS configuration

resolver #1
  search domain[0] : home.example
  search domain[1] : corp.example
  nameserver[0] : 192.0.2.53
  nameserver[1] : 2001:db8::53
  if_index : 15 (en0)
  flags    : Request A records, Request AAAA records
  reach    : 0x00020002 (Reachable,Directly Reachable Address)

resolver #2
  domain   : corp.example
  nameserver[0] : 10.8.0.2
  flags    : Supplemental, Request A records
  reach    : 0x00000003 (Reachable,Transient Connection)
  order    : 101200

resolver #3
  domain   : corp.example
  nameserver[0] : 10.8.0.1
  port     : 5353
  order    : 101000

resolver #4
  domain   : local
  options  : mdns
  timeout  : 5
  flags    : Request A records
  reach    : 0x00000000 (Not Reachable)
  order    : 300000

DNS configuration (for scoped queries)

resolver #1
  search domain[0] : scoped.example
  nameserver[0] : 198.51.100.9
  if_index : 15 (en0)
  flags    : Scoped, Request A records
"""


def texts(resolvers):
    return {zone: [str(server) for server in servers] for zone, servers in resolvers.routes.items()}


def test_resolvectl_with_a_vpn():
    found = parse_resolvectl(VPN)
    vpn = ["10.8.0.1#53", "10.8.0.2#5353", "2001:db8:8::1#53", "10.8.0.3#53"]
    assert texts(found) == {
        "home.example": ["192.0.2.53#53", "2001:db8::53#53"],
        "corp.example": vpn,
        "8.10.in-addr.arpa": vpn,
        "lab.example": vpn,
        "": ["192.0.2.53#53", "2001:db8::53#53"],
    }
    assert found.search == ("home.example", "corp.example")


def test_resolvectl_of_old_and_a_vpn_that_takes_everything():
    found = parse_resolvectl(OLD)
    assert texts(found) == {
        "home.example": ["192.0.2.53#53"],
        "": ["10.9.0.1#53", "fe80::1%wg0#53"],
    }
    assert found.search == ("home.example",)


def test_resolvectl_with_global_servers():
    found = parse_resolvectl(GLOBAL)
    assert texts(found) == {
        "office.example": ["192.0.2.1#53"],
        "corp.example": ["10.8.0.1#53", "10.8.0.7#5353"],
        "lab.example": ["10.8.0.1#53", "10.8.0.7#5353"],
        "": ["192.0.2.1#53", "192.0.2.53#53"],
    }
    assert found.search == ("corp.example",)


def test_scutil():
    found = parse_scutil(MAC)
    assert texts(found) == {
        "": ["192.0.2.53#53", "2001:db8::53#53"],
        "corp.example": ["10.8.0.1#5353", "10.8.0.2#53"],
    }
    assert found.search == ("home.example", "corp.example")


@pytest.mark.parametrize("parse", [parse_resolvectl, parse_scutil])
def test_what_says_nothing(parse):
    for text in ("", "Failed to connect to bus: No such file or directory\n", "resolver #1\n  nameserver[0] : x\n",
                 "Global\n DNS Servers: x [ [::1 1.2.3.4:99999\n DNS Domain: a..b\n"):  # fmt: skip
        assert parse(text).routes == {}
        assert parse(text).search == ()
