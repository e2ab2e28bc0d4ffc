"""An HTTP client under 5 % loss: pytest examples/test_http_under_loss.py

The fixture ``impaired_guest`` is netstack's pytest plugin's. The loss is the same in every run.
"""

import http.client
import http.server
import threading

import pytest

HOST = "192.168.65.2"  # this host's loopback, as the guest sees it
PAGE = b"0123456789abcdef" * 500


class Pages(http.server.BaseHTTPRequestHandler):
    """The server under test would stand here."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """One page."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *arguments):
        """Nothing."""


@pytest.fixture
def port():
    """Of a server on this host's loopback."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_every_page_arrives_whole(impaired_guest, port):
    guest = impaired_guest("loss=5%,delay=2ms")
    client = http.client.HTTPConnection(HOST)
    client.sock = guest.connect(HOST, port)
    for _ in range(20):
        client.request("GET", "/")
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (200, PAGE)
    client.close()
    seen = guest.link.stats()
    assert seen["up"]["lost"] + seen["down"]["lost"] > 0  # else nothing has been shown
