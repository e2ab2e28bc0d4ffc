"""A DNS zone that changes while the network runs: a record, a wildcard, a name taken away, and a hook that computes."""

import netstack
from netstack.testing import memory_guest

services = {"api.svc.test": "10.0.0.21"}


def discover(name, kind):
    """What stands for a name in svc.test: asked for each query. KeyError: there is no such name."""
    return services[name] if kind == "A" else []


with netstack.Gateway(netstack.Config(dns=())) as gateway, memory_guest(gateway) as guest:
    guest.dhcp()

    def ask(name):
        """As a program in the guest does."""
        try:
            return guest.resolve(name)
        except netstack.NetstackError as error:
            return str(error)

    gateway.dns.add_zone("corp")  # in corp there is what stands here, and nothing else
    gateway.dns.set("web.corp", "10.0.0.5", ("TXT", "version 1"))
    gateway.dns.set("*.dev.corp", "10.0.0.9")
    print("web.corp:", ask("web.corp"))
    print("anything.dev.corp:", ask("anything.dev.corp"))

    gateway.dns.set("web.corp", "10.0.0.6")  # TTL 0: a change shows at once
    print("web.corp after the change:", ask("web.corp"))

    gateway.dns.remove("web.corp")
    print("web.corp when it is gone:", ask("web.corp"))

    gateway.dns.hook(["svc.test"], discover)
    print("api.svc.test:", ask("api.svc.test"))
    services["api.svc.test"] = "10.0.0.22"
    print("api.svc.test after it has moved:", ask("api.svc.test"))
