"""Where the commands of the docs are run: a host, its internet, and guests; each scene is one of `SCENES`.

All of them share a laboratory (`Stage`): the host's namespace, a router with a proxy, and a world with web, name and
git servers for the names that the docs use. A scene gives the host a process namespace and mounts of its own: /run and
/tmp are empty, sudo needs no password, ``netstack`` is the program of this tree. Nothing of it is seen outside, and all
of it ends with the scene.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from doc_blocks import ROOT
from doc_shell import Shell, wait
from programs import DNSMASQ, certificate

from netstack.testing.lab import GATEWAY, ROUTER, WORLD, Lab
from netstack.testing.namespace import Namespace, Process

INSIDE = "/mnt"  # the laboratory's folder, as scenes see it
HOSTS = ("example.org", "www.example.org", "example.com", "www.example.com", "git.example.com")
NAME_SERVERS = ("10.0.0.53", "1.1.1.1", "9.9.9.9")  # of the docs, in the world
VPN = "tun0"  # of the host: a way into the world besides the router's
VPN_SERVER, VPN_ADDRESS = "10.8.0.1", "10.8.0.2"
TLS_SERVER = ("9.9.9.9", "dns.quad9.net")
WEB = "192.168.65.7"
WEB_MAC = "02:00:00:00:00:07"

#: Programs that may be missing: a block that names one is left out then.
PROGRAMS: tuple[str, ...] = (
    "curl",
    "nginx",
    "dig",
    "ping",
    "tinyproxy",
    "dnsmasq",
    "git",
    "jq",
    "tshark",
    "nc",
    "ssh",
    "dropbear",
)
PROGRAMS += ("qemu-system-x86_64", "udhcpc", "openssl", "iperf3", "tcpdump", "traceroute")

PAGE = "<h1>Example Domain</h1>\n"

SHIMS = {
    "netstack": 'exec {python} -m netstack "$@"',
    "python3": 'exec {python} "$@"',
    "python": 'exec {python} "$@"',
    "pytest": '''export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1  # other plugins take seconds
exec {python} -m pytest -p no:cacheprovider -p netstack.testing.plugin "$@"''',
    "terminal": 'exec {python} -I -S {inside}/terminal.py "$@"',
    "sudo": 'exec "$@"',
    "ssh": 'exec /usr/bin/ssh -F {inside}/ssh_config "$@"',
    # What wg-quick does to the host's addresses, routes and resolver; the tunnel is a cable of the laboratory.
    "wg-quick": """case $1 in
up) ip link set "$2" up; ip address replace {address}/24 dev "$2"; echo nameserver {server} >/etc/resolv.conf ;;
down) ip link set "$2" down; ip address flush dev "$2"; echo nameserver {world} >/etc/resolv.conf ;;
esac""",
    # The machine is made and joins the network, and does not boot.
    "qemu-system-x86_64": 'exec /usr/bin/qemu-system-x86_64 -S -display none -m 64 "$@"',
}

#: Runs a command with a terminal of 120 by 50, and hands Ctrl-C on to it.
TERMINAL = """\
import fcntl, os, pty, signal, struct, sys, termios
child, terminal = pty.fork()
if child == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    os.environ["TERM"] = "xterm"
    os.execvp(sys.argv[1], sys.argv[1:])
signal.signal(signal.SIGINT, lambda *_: os.kill(child, signal.SIGINT))
while True:
    try:
        os.write(1, os.read(terminal, 65536))
    except OSError:
        break
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256)
"""

SSH_CONFIG = f"""
Host *
  IdentityFile {INSIDE}/ssh_key
  UserKnownHostsFile /dev/null
  StrictHostKeyChecking no
  LogLevel ERROR
  BatchMode yes
Host host
  HostName {WORLD}
"""

NGINX = """
daemon off;
error_log stderr;
pid {folder}/nginx.pid;
worker_processes 1;
events {{ worker_connections 128; }}
http {{
  access_log off;
  default_type text/html;
  client_body_temp_path {folder}/nginx-1;
  proxy_temp_path {folder}/nginx-2;
  fastcgi_temp_path {folder}/nginx-3;
  uwsgi_temp_path {folder}/nginx-4;
  scgi_temp_path {folder}/nginx-5;
  server {{ {listen} root {root}; }}
}}
"""

TINYPROXY = """
Port 3128
Listen {address}
Timeout 60
LogFile "{folder}/tinyproxy.log"
LogLevel Connect
MaxClients 50
Allow 0.0.0.0/0
{more}
"""

ANCHOR = """
set -e
mount --bind "$1" {inside}
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/user/0
{hide_tmp}
if [ -d /etc/nginx ]; then mount --bind {inside}/etc/nginx /etc/nginx; fi
for name in hosts passwd resolv.conf; do mount --bind {inside}/etc/$name "$(readlink -f /etc/$name)"; done
: > "$2"
set +e
while :; do sleep 1000 & wait $!; done
"""


def missing(text: str) -> str | None:
    """The first program that a block names and this machine has not."""
    words = set(text.replace("|", " ").replace("'", " ").split())
    for name in PROGRAMS:
        if name in words and shutil.which(name) is None:
            return name
    return "dropbear" if "ssh" in words and shutil.which("dropbear") is None else None


def captures_in(folder: Path) -> None:
    """Captures under the names that pages use. Their first bytes tell what they are, not their names."""
    found = {name: ROOT / "pcaps" / f"{name}.pcapng" for name in ("http", "resets", "loss", "dns")}
    sources = {"all.pcap": "resets", "monday.pcap": "loss", "tuesday.pcap": "http", "session.pcapng": "dns"}
    packed = {"monday.pcap.gz": "loss", "tuesday.pcap.zst": "resets", "huge.pcapng.zst": "http"}
    for name, source in {**sources, **packed}.items():
        shutil.copy(found[source], folder / name)
    (folder / "pcaps").symlink_to(ROOT / "pcaps")
    (folder / "captures").mkdir()
    for source in ("http", "resets"):
        shutil.copy(found[source], folder / "captures")


class Stage:
    """The laboratory, and the files that scenes see below /mnt."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        try:
            self._make()
        except BaseException:
            self._stack.close()
            raise

    def close(self) -> None:
        """Ends everything."""
        self._stack.close()

    def _make(self) -> None:
        self.lab = self._stack.enter_context(Lab())
        self.folder = self.lab.directory
        self.router, self.world = self.lab.world()
        for name in ("bin", "etc", "home", "home/.ssh", "www", "work"):
            (self.folder / name).mkdir(mode=0o700 if "home" in name else 0o755)
        python = shlex.quote(sys.executable)
        for name, text in SHIMS.items():
            path = self.folder / "bin" / name
            text = text.format(
                python=python, inside=INSIDE, address=VPN_ADDRESS, server=VPN_SERVER, world=WORLD
            )
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
        (self.folder / "etc/hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n{ROUTER} proxy\n")
        home = f":x:0:0:root:{INSIDE}/home:/bin/sh"
        others = [
            line for line in Path("/etc/passwd").read_text().splitlines() if not line.startswith("root:")
        ]
        (self.folder / "etc/passwd").write_text("\n".join([f"root{home}", f"user{home}", *others, ""]))
        (self.folder / "etc/guest.resolv.conf").write_text(f"nameserver {GATEWAY}\nsearch internal\n")
        (self.folder / "terminal.py").write_text(TERMINAL)
        (self.folder / "ssh_config").write_text(SSH_CONFIG)
        (self.folder / "home/.gitconfig").write_text(
            "[safe]\n directory = *\n[init]\n defaultBranch = main\n"
        )
        self._keys()
        self._world()
        self._nginx()

    def reset(self) -> None:
        """The host's network as each scene finds it."""
        host = self.lab.host
        host.ip("link", "set", VPN, "up")
        host.ip("address", "replace", f"{VPN_ADDRESS}/24", "dev", VPN)
        host.ip("route", "replace", "default", "via", VPN_SERVER, "metric", "500")
        (self.folder / "etc/resolv.conf").write_text(f"nameserver {WORLD}\n")

    def _keys(self) -> None:
        if shutil.which("openssl"):
            certificate(self.folder / "ca.pem", self.folder / "key.pem", *HOSTS, TLS_SERVER[1])
        if shutil.which("dropbear") and shutil.which("ssh-keygen"):
            key = self.folder / "ssh_key"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
            (self.folder / "home/.ssh/authorized_keys").write_text(key.with_suffix(".pub").read_text())
            argv = ["dropbearkey", "-t", "ed25519", "-f", "dropbear_key"]
            subprocess.run(argv, cwd=self.folder, check=True, capture_output=True)

    def _world(self) -> None:
        """Web, git and name servers beyond the router, and the proxy on it."""
        for address in NAME_SERVERS:
            self.world.ip("address", "add", f"{address}/32", "dev", "lo")
            self.router.ip("route", "add", f"{address}/32", "via", WORLD)
        self.lab.veth((self.lab.host, VPN, ""), (self.world, VPN, f"{VPN_SERVER}/24"))
        self.reset()
        www = self.folder / "www"
        (www / "index.html").write_text(PAGE)
        (www / "file").write_bytes(bytes(range(256)) * 80)
        self._repository(www)
        if shutil.which("nginx") and shutil.which("openssl"):
            tls = f"ssl_certificate {self.folder}/ca.pem; ssl_certificate_key {self.folder}/key.pem;"
            listen = f"listen 80; listen 443 ssl; {tls}"
            self.nginx(self.world, "world", listen, www).wait_listening(443)
        if shutil.which("dnsmasq"):
            names = [f"--host-record={name},{WORLD}" for name in HOSTS]
            inside = (f"--host-record=db.corp.example,{VPN_SERVER}", f"--listen-address={VPN_SERVER}")
            outside = ("--local=/corp.example/", *(f"--listen-address={a}" for a in (WORLD, *NAME_SERVERS)))
            for port, more in (
                ("53", (*outside, "--listen-address=127.0.0.1")),
                ("5353", outside),
                ("53", inside),
            ):
                self.world.spawn(*DNSMASQ, f"--port={port}", *names, *more).wait_listening(int(port))
            self._dns_over_tls()
        if shutil.which("tinyproxy"):
            path = self.folder / "tinyproxy.conf"
            path.write_text(TINYPROXY.format(address=ROUTER, folder=self.folder, more=""))
            self.router.resolv_conf.write_text(f"nameserver {WORLD}\n")
            self.router.spawn("tinyproxy", "-d", "-c", str(path)).wait_listening(3128)

    def _nginx(self) -> None:
        """What an nginx without options serves, on hosts and guests: as Debian's, but for its logs."""
        guest = self.folder / "guest"
        guest.mkdir()
        (guest / "index.html").write_text("<h1>Welcome to nginx!</h1>\n")
        for name in ("x.git", "project.git"):
            if (self.folder / "www" / name).exists():
                shutil.copytree(self.folder / "www" / name, guest / name)
        (self.folder / "etc/nginx").mkdir()
        text = NGINX.format(folder="/run", listen="listen 80;", root=f"{INSIDE}/guest")
        text = text.replace("daemon off;\n", "").replace("pid /run/nginx.pid;\n", "")
        (self.folder / "etc/nginx/nginx.conf").write_text(text)

    def _repository(self, www: Path) -> None:
        """A git repository that any web server can serve."""
        if shutil.which("git") is None:
            return
        script = """
            git init -q --bare x.git && git clone -q x.git y 2>/dev/null && cd y && echo hello > README
            git add README && git -c user.name=u -c user.email=u@example.com commit -q -m first
            git push -q origin HEAD:main && cd .. && git -C x.git symbolic-ref HEAD refs/heads/main
            git -C x.git update-server-info && rm -rf y && cp -r x.git project.git"""
        home = {**os.environ, "HOME": str(self.folder / "home")}
        subprocess.run(["sh", "-ec", script], cwd=www, env=home, check=True, capture_output=True)

    def nginx(self, ns: Namespace, name: str, listen: str, root: Path) -> Process:
        """An nginx in a namespace of the laboratory."""
        path = self.folder / f"{name}.nginx.conf"
        path.write_text(NGINX.format(folder=self.folder, listen=listen, root=root))
        return ns.spawn("nginx", "-c", str(path))

    def _dns_over_tls(self) -> None:
        """Hands what comes over TLS to the world's name server."""
        if shutil.which("openssl") is None:
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "ca.pem", self.folder / "key.pem")
        listener = self._stack.enter_context(self.world.listen(TLS_SERVER[0], 853))

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    threading.Thread(target=answer, args=(sock,), daemon=True).start()

        def answer(sock: socket.socket) -> None:
            with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as client:
                while query := message(client):
                    with self.world.connect("127.0.0.1", 53) as upstream:
                        upstream.sendall(query)
                        client.sendall(message(upstream))

        def message(sock: socket.socket) -> bytes:
            data = b""
            while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
                piece = sock.recv(65535)
                if not piece:
                    return b""
                data += piece
            return data

        threading.Thread(target=serve, daemon=True).start()


class Place:
    """A host with processes and mounts of its own, and the guests of a scene; from a scene's begin to its end."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.machines: dict[str, tuple[Namespace, str]] = {
            "": (stage.lab.host, "resolv.conf"),
            "world": (stage.world, "resolv.conf"),
        }
        self.environment: dict[str, str] = {}
        self.close_also = contextlib.ExitStack()
        stage.reset()
        Place._made += 1
        ready = stage.folder / f"anchor{Place._made}"
        visible = (str(ROOT), sys.prefix, sys.base_prefix)
        hide = "" if any(path.startswith("/tmp/") for path in visible) else "mount -t tmpfs tmpfs /tmp"
        script = ANCHOR.format(inside=INSIDE, hide_tmp=hide)
        argv = [
            "nsenter",
            f"--net={stage.lab.host.path}",
            "unshare",
            "--mount",
            "--propagation=private",
            "--pid",
        ]
        argv += ["--fork", "--kill-child", "--mount-proc", "sh", "-c", script, "sh", str(stage.folder)]
        self._anchor = subprocess.Popen([*argv, f"{INSIDE}/{ready.name}"], start_new_session=True)
        wait(lambda: ready.exists() or self._anchor.poll() is not None, lambda: "the scene has no mounts")
        assert ready.exists(), "the scene has no mounts"
        children = Path(f"/proc/{self._anchor.pid}/task/{self._anchor.pid}/children")
        self._first = int(children.read_text().split()[0])
        self.proc = Path(f"/proc/{self._first}/root/proc")

    _made = 0

    def shell(self, where: str, page: str) -> Shell:
        """A shell on one of the machines; blocks of one page share its working directory.

        Raises:
            KeyError: the scene has no such machine.
        """
        ns, resolver = self.machines[where]
        directory = self.folder(page)
        home = f"{INSIDE}/work/{directory.name}"
        enter = ["nsenter", "-t", str(self._first), "--mount", "--pid", f"--net={ns.path}"]
        if where:
            bind = f'mount --bind {INSIDE}/etc/{resolver} /etc/resolv.conf && exec "$@"'
            enter += ["unshare", "--mount", "--propagation=private", "sh", "-c", bind, "sh"]
        path = f"{INSIDE}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        variables = {
            "PATH": path,
            "HOME": f"{INSIDE}/home",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "XDG_RUNTIME_DIR": "/run/user/0",
            "LC_ALL": "C.UTF-8",
            "TERM": "dumb",
            "COLUMNS": "120",
            "GIT_TERMINAL_PROMPT": "0",
            **dict.fromkeys(("CURL_CA_BUNDLE", "SSL_CERT_FILE", "GIT_SSL_CAINFO"), f"{INSIDE}/ca.pem"),
            **self.environment,
        }
        enter += ["env", "-i", *(f"{key}={value}" for key, value in variables.items())]
        return Shell(enter, home, self.stage.folder, INSIDE, self.proc)

    def folder(self, page: str) -> Path:
        """The working directory of a page's shells, with captures under the names that pages use."""
        path = self.stage.folder / "work" / f"{Place._made}-{page.replace('/', '-')}"
        if not path.exists():
            path.mkdir()
            captures_in(path)
        return path

    def close(self) -> None:
        """Ends every process of the scene."""
        self.close_also.close()
        self._anchor.kill()
        self._anchor.wait()


def host(place: Place) -> None:
    """A user's shell on a host whose internet has the names that docs use."""


def behind_a_proxy(place: Place) -> None:
    """The same, in a shell whose variables name the proxy, which is the only way out."""
    for name in ("http_proxy", "https_proxy"):
        place.environment[name] = "http://proxy:3128"
    place.environment["no_proxy"] = "*.local, 169.254/16"


def machine(place: Place) -> None:
    """A machine ``web`` that joins at /tmp/q.sock as soon as somebody serves there; with nginx, and an SSH server."""
    lab = place.stage.lab
    guest = lab.guest
    place.machines["web"] = (guest, "guest.resolv.conf")
    shell = place.shell("web", "web")
    place.close_also.callback(shell.close)
    if shutil.which("nginx"):
        shell.run("nginx -g 'pid /run/web.pid; daemon off;' &")
    if shutil.which("dropbear"):
        shell.run(f"dropbear -F -E -s -r {INSIDE}/dropbear_key -p 22 -P /run/dropbear.pid &")
    shell.run("netstack relay tap:tap0 --connect qemu:/tmp/q.sock &")
    script = f"""
        ip link set tap0 address {WEB_MAC}; ip link set tap0 up; ip address add {WEB}/24 dev tap0
        ip route add default via {GATEWAY}"""
    for command in textwrap.dedent(script).strip().replace("\n", "; ").split("; "):
        shell.run(command)


def served(place: Place) -> None:
    """``netstack serve --api web``, a proxy into it, and the machine of `machine` as a guest at 192.168.65.7."""
    shell = place.shell("", "served")
    place.close_also.callback(shell.close)
    places = "--listen qemu:/tmp/q.sock --listen hyperkit:/tmp/eth.sock"
    shell.run(f"netstack serve {places} --api web --guest {WEB_MAC}={WEB},web --socks 1080 &")
    machine(place)
    shell.run("until netstack ping -c 1 -W 0.2 web; do :; done")


SCENES: dict[str, Callable[[Place], None]] = {
    "host": host,
    "behind a proxy": behind_a_proxy,
    "machine": machine,
    "served": served,
}


@contextlib.contextmanager
def scene(stage: Stage, name: str) -> Iterator[Place]:
    """A scene by its name, from its begin to its end."""
    place = Place(stage)
    try:
        SCENES[name](place)
        yield place
    finally:
        place.close()
