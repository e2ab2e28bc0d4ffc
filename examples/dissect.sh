#!/bin/sh
# A capture: its conversations, one connection's figures as CSV, and whether this stack does right with it.
set -e
netstack dissect --flows pcaps/http.pcapng
netstack dissect --csv --columns time,ip_src,tcp_seq,rtt --filter 'tcp port 80' -c 5 pcaps/http.pcapng
netstack replay pcaps/http.pcapng
