#!/bin/sh
# A capture: its conversations, and whether this stack does right with it.
set -e
netstack dissect --flows pcaps/http.pcapng
netstack replay pcaps/http.pcapng
