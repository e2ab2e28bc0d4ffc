"""Web traffic with the real programs: curl from and to nginx, git clone, pip download."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from netstack.testing.lab import HOST_ALIAS

pytestmark = pytest.mark.netns

MIB = 1024 * 1024
PORT = 8080

NGINX = """
daemon off; master_process off; pid {dir}/nginx.pid; error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off; client_max_body_size 0; sendfile on;
    client_body_temp_path {dir}/tmp; proxy_temp_path {dir}/tmp; fastcgi_temp_path {dir}/tmp;
    uwsgi_temp_path {dir}/tmp; scgi_temp_path {dir}/tmp;
    server {{
        listen {address}:{port};
        root {dir}/www;
        location /up/ {{ dav_methods PUT DELETE; create_full_put_path on; }}
    }}
}}
"""


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"the program {program!r} is missing")


def make_file(path, size):
    """A file of random bytes; its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as f:
        for _ in range(size // MIB):
            block = os.urandom(MIB)
            f.write(block)
            digest.update(block)
    return digest.hexdigest()


def file_digest(path):
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(MIB):
            digest.update(block)
    return digest.hexdigest()


@pytest.fixture(scope="module")
def nginx(net):
    """A web server on the host's loopback; its directory of documents."""
    need("nginx")
    directory = net.files / "nginx"
    for name in ("tmp", "www/up"):
        (directory / name).mkdir(parents=True)
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(dir=directory, address=net.loopback, port=PORT))
    server = net.host.spawn("nginx", "-e", "stderr", "-c", str(config))
    server.wait_listening(PORT)
    yield directory / "www"
    server.stop()


@pytest.mark.parametrize(
    "size", [64 * MIB, pytest.param(1024 * MIB, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_curl_downloads_and_uploads(net, nginx, size):
    need("curl")
    served, got, back = nginx / "big", net.files / "got", nginx / "up" / "back"
    digest = make_file(served, size)
    try:
        url = f"http://{HOST_ALIAS}:{PORT}"
        net.guest.run("curl", "-sSf", "-o", str(got), f"{url}/big", timeout=300)
        assert file_digest(got) == digest
        net.guest.run("curl", "-sSf", "-T", str(got), f"{url}/up/back", timeout=300)
        assert file_digest(back) == digest
    finally:
        for path in (served, got, back):
            path.unlink(missing_ok=True)


def test_curl_sees_errors_as_they_are(net, nginx):
    need("curl")
    url = f"http://{HOST_ALIAS}:{PORT}"
    done = net.guest.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{url}/none")
    assert done.stdout == "404"
    assert net.guest.run("curl", "-s", f"http://{HOST_ALIAS}:1/", check=False).returncode == 7


def test_curl_takes_many_files_over_one_connection_and_over_many(net, nginx):
    need("curl")
    for number in range(20):
        (nginx / f"f{number}").write_bytes(b"%d" % number * 1000)
    url = f"http://{HOST_ALIAS}:{PORT}/f[0-19]"
    want = "".join(f"{n}" * 1000 for n in range(20))
    assert net.guest.run("curl", "-sSf", url).stdout == want
    assert net.guest.run("curl", "-sSf", "-H", "Connection: close", url).stdout == want
    done = net.guest.run(
        *("curl", "-sSf", "--parallel", "--parallel-immediate", "-o", str(net.files / "p#1"), url)
    )
    assert done.returncode == 0
    assert "".join((net.files / f"p{n}").read_text() for n in range(20)) == want


def test_git_clones_over_http(net, nginx):
    need("git")
    work, bare = net.files / "work", nginx / "repo.git"
    env = {
        **os.environ,
        "HOME": str(net.files),
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": "t@example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }

    def git(*args):
        return subprocess.run(["git", *args], check=True, capture_output=True, text=True, env=env).stdout

    git("init", "-q", "-b", "main", str(work))
    for number in range(5):
        (work / f"file{number}").write_bytes(os.urandom(200_000))
        git("-C", str(work), "add", ".")
        git("-C", str(work), "commit", "-q", "-m", f"commit {number}")
    git("clone", "-q", "--bare", str(work), str(bare))
    git("-C", str(bare), "update-server-info")
    clone = net.files / "clone"
    net.guest.run("git", "clone", "-q", f"http://{HOST_ALIAS}:{PORT}/repo.git", str(clone), env=env)
    assert git("-C", str(clone), "rev-parse", "HEAD") == git("-C", str(work), "rev-parse", "HEAD")
    assert git("-C", str(clone), "fsck", "--full") == ""
    for number in range(5):
        assert (clone / f"file{number}").read_bytes() == (work / f"file{number}").read_bytes()


def test_pip_downloads_from_a_local_index(net):
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        pytest.skip("this Python has no pip")
    name = "tinything-1.0-py3-none-any.whl"
    index = net.files / "index" / "simple" / "tinything"
    index.mkdir(parents=True)
    with zipfile.ZipFile(index / name, "w") as wheel:
        info = "tinything-1.0.dist-info"
        wheel.writestr("tinything.py", "ANSWER = 42\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinything\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    server = net.host.spawn(
        *(sys.executable, "-m", "http.server", "8081"),
        *("--bind", net.loopback, "--directory", str(net.files / "index")),
    )
    server.wait_listening(8081)
    got = net.files / "wheels"
    net.guest.run(
        *(sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "download", "--no-deps"),
        *("--no-cache-dir", "--trusted-host", HOST_ALIAS, "-d", str(got)),
        *("--index-url", f"http://{HOST_ALIAS}:8081/simple/", "tinything"),
        cwd=str(net.files),
    )
    assert (got / name).read_bytes() == (index / name).read_bytes()
    server.stop()
