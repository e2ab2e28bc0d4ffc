"""Two TCP connections talk to each other: no socket, no clock, no thread."""

from netstack.tcp import Connection, DataReceived

client = Connection(40000, 80, iss=1000)
server = Connection(80, 40000, iss=2000)
server.listen()
client.open(now=0.0)
client.send(b"hello over a wire that is a Python list", now=0.0)
for step in range(10):
    for sender, receiver in ((client, server), (server, client)):
        for segment in sender.segments_to_send(now=step / 100):
            for event in receiver.receive_segment(segment, now=step / 100):
                print(f"{step / 100:.2f} s", "server" if receiver is server else "client", event)
                if isinstance(event, DataReceived) and receiver is server:
                    server.send(event.data.upper(), now=step / 100)
