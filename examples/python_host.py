"""This program as two hosts of a virtual network: a web server at an address of its own, and a client of a guest's.

The guest is one in memory, so that the example needs nothing. A virtual machine or a namespace sees the same.
"""

import http.client
import http.server
import threading

import netstack
from netstack.testing import memory_guest


class Hello(http.server.BaseHTTPRequestHandler):
    """Answers with the address that asks."""

    def do_GET(self):
        """One page."""
        body = f"hello, {self.client_address[0]}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Nothing."""


with netstack.Gateway(netstack.Config(dns=())) as gateway, memory_guest(gateway) as guest:
    print("the guest's address:", guest.dhcp()["address"])

    # A host at 192.168.65.200: guests find it by ARP, and DHCP gives its address to nobody.
    with gateway.listen("192.168.65.200", 80) as server:

        def serve():
            """One connection."""
            sock, peer = server.accept(timeout=5)
            with sock:
                Hello(sock, peer, None)

        threading.Thread(target=serve).start()
        client = http.client.HTTPConnection("192.168.65.200")
        client.sock = guest.connect("192.168.65.200", 80)
        client.request("GET", "/")
        print("the guest reads:", client.getresponse().read().decode().strip())
        client.close()

    # And the other way: a ping, and a datagram to the guest with its answer.
    print("the guest answers a ping:", gateway.ping("192.168.65.3") is not None)
    with guest.udp(5353) as inside, gateway.open_datagram("192.168.65.3", 5353) as outside:
        outside.send(b"anybody there?")
        question, whom = inside.recvfrom(timeout=5)
        inside.sendto(question.upper(), whom)
        outside.settimeout(5)
        print("it answers a datagram:", outside.recv(100).decode())
