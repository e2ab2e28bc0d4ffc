#!/bin/sh
# A command with a network of its own, that reaches a server on this host's loopback.
python3 -m http.server 8000 --bind 127.0.0.1 >/dev/null 2>&1 &
trap 'kill $!' EXIT
netstack run -- curl -sS --retry 9 --retry-all-errors --retry-delay 1 http://host.internal:8000/
