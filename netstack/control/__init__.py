"""The control plane: guests' handshakes, requests of the proxy's clients (`socks`), messages to the system, and the
control API of a running instance.

The API is HTTP with JSON over a Unix socket. `api` serves it, in a thread and an asyncio loop of its own, so that a
slow client holds up neither packets nor the gateway's control thread; `answers` are its messages as types, of which
`openapi` makes the description that it gives of itself; `metrics` is the same knowledge in Prometheus' format.
`streams` are the requests that go on when their answer has begun. `instances` says where sockets lie and who may
reach them, and `client` is the other end, without aiohttp.
"""
