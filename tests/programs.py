"""How tests call programs that several of them need."""

from __future__ import annotations

import subprocess
from pathlib import Path

#: In the foreground, with nothing of the machine's own settings; what it serves follows.
DNSMASQ = ("dnsmasq", "-d", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces")


def certificate(cert: Path, key: Path, *names: str) -> None:
    """A key, and a certificate of it for these names that is its own authority. Needs openssl."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", f"/CN={names[0]}", "-addext", "subjectAltName=" + ",".join(f"DNS:{n}" for n in names)),
            *("-days", "2", "-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
