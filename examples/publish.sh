#!/bin/sh
# A server in a network of its own, published on a port of this host.
netstack run -p 127.0.0.1:8080:80 -- python3 -m http.server 80 >/dev/null 2>&1 &
trap 'kill $!' EXIT
curl -sS --retry 9 --retry-all-errors --retry-delay 1 http://127.0.0.1:8080/
