"""What options, files, the environment and the desktops say, read from recorded output."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from netstack.config import Config
from netstack.errors import ConfigError
from netstack.proxy import sources
from netstack.proxy.environment import guest_environment
from netstack.proxy.plan import Plan
from netstack.proxy.presence import present
from netstack.proxy.service import Finder, describe
from netstack.proxy.settings import ProxySettings, Upstream, parse_upstream

UNPACKED = Path(__file__).resolve().parents[2] / "build" / "unpacked"  # by ./dev test
GSETTINGS = """\
org.gnome.system.proxy autoconfig-url ''
org.gnome.system.proxy ignore-hosts ['localhost', '127.0.0.0/8', '::1', '*.corp.example', '10/8']
org.gnome.system.proxy mode 'manual'
org.gnome.system.proxy use-same-proxy false
org.gnome.system.proxy.ftp host ''
org.gnome.system.proxy.ftp port 0
org.gnome.system.proxy.http authentication-password 'p@ss:word'
org.gnome.system.proxy.http authentication-user 'me'
org.gnome.system.proxy.http enabled false
org.gnome.system.proxy.http host 'proxy.corp.example'
org.gnome.system.proxy.http port 8080
org.gnome.system.proxy.http use-authentication true
org.gnome.system.proxy.https host 'secure.corp.example'
org.gnome.system.proxy.https port 8443
org.gnome.system.proxy.socks host ''
org.gnome.system.proxy.socks port 0
"""

SCUTIL = """\
<dictionary> {
  ExceptionsList : <array> {
    0 : *.local
    1 : 169.254/16
    2 : intranet
  }
  ExcludeSimpleHostnames : 1
  FTPPassive : 1
  HTTPEnable : 1
  HTTPPort : 3128
  HTTPProxy : 127.0.0.1
  HTTPSEnable : 1
  HTTPSPort : 3129
  HTTPSProxy : proxy.corp.example
  ProxyAutoConfigEnable : 0
  __SCOPED__ : <dictionary> {
    en0 : <dictionary> {
      HTTPEnable : 1
      HTTPPort : 1
      HTTPProxy : another.example
      ExceptionsList : <array> {
        0 : scoped.example
      }
    }
  }
}
"""


def plan(**changes: object) -> Plan:
    return Plan.of(Config(**changes), lambda name: None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://proxy:3128", Upstream("proxy", 3128)),
        ("HTTP://proxy:3128/", Upstream("proxy", 3128)),
        ("proxy:3128", Upstream("proxy", 3128)),
        ("http://proxy", Upstream("proxy", 80)),
        ("http://u:p%40%3A@proxy:1", Upstream("proxy", 1, "u", "p@:")),
        ("http://u@proxy:1", Upstream("proxy", 1, "u", "")),
        ("http://DOMAIN%5Cu:p:q@proxy:1", Upstream("proxy", 1, "DOMAIN\\u", "p:q")),
        ("http://[fd00::1]:8080", Upstream("fd00::1", 8080)),
        ("  ", None),
    ],
)
def test_upstream(text: str, expected: Upstream | None) -> None:
    assert parse_upstream(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("https://u:secret@proxy:1", "TLS to the proxy is not supported"),
        ("socks5://proxy:1", "SOCKS5 is not supported"),
        ("http://proxy:0", "is not http://"),
        ("http://u:secret@", "is not http://"),
        ("proxy:many", "is not http://"),
    ],
)
def test_no_upstream_and_no_password_told(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as info:
        parse_upstream(text)
    assert "secret" not in str(info.value)


def test_credentials_are_not_printed() -> None:
    upstream = parse_upstream("http://u:secret@proxy:1")
    assert upstream is not None
    assert upstream.authorization == b"Basic dTpzZWNyZXQ="
    assert "secret" not in f"{upstream} {upstream!r} {describe(ProxySettings(http=upstream))}"


def test_environment() -> None:
    found = sources.from_environment(
        {
            "http_proxy": "http://a:1",
            "HTTP_PROXY": "http://b:1",
            "HTTPS_PROXY": "c:2",
            "NO_PROXY": "x.test,10/8",
        }
    )
    assert (found.http, found.https) == (Upstream("a", 1), Upstream("c", 2))
    assert found.no_proxy.matches("10.1.1.1")
    assert sources.from_environment({"ALL_PROXY": "http://a:1"}).https == Upstream("a", 1)
    assert sources.from_environment({"HTTP_PROXY": "http://a:1", "REQUEST_METHOD": "GET"}).http is None
    bad = sources.from_environment({"https_proxy": "socks5h://a:1", "no_proxy": "good.test,a/b"})
    assert not bad.active
    assert len(bad.problems) == 2
    assert bad.no_proxy.matches("good.test")


def test_gnome() -> None:
    found = sources.from_gsettings(GSETTINGS)
    assert found.http == Upstream("proxy.corp.example", 8080, "me", "p@ss:word")
    assert found.https == Upstream("secure.corp.example", 8443)
    assert found.no_proxy.matches("www.corp.example")
    assert found.no_proxy.matches("10.9.9.9")
    assert not sources.from_gsettings(GSETTINGS.replace("'manual'", "'none'")).active
    auto = sources.from_gsettings(
        GSETTINGS.replace("'manual'", "'auto'").replace("url ''", "url 'http://wpad/x.pac'")
    )
    assert (auto.active, auto.pac) == (False, "http://wpad/x.pac")
    default = GSETTINGS.replace("use-same-proxy false", "use-same-proxy true")
    assert sources.from_gsettings(default).https == Upstream("secure.corp.example", 8443)
    same = sources.from_gsettings(default.replace("'secure.corp.example'", "''"))
    assert same.https == same.http
    empty = GSETTINGS.replace("['localhost', '127.0.0.0/8', '::1', '*.corp.example', '10/8']", "@as []")
    assert not sources.from_gsettings(empty).no_proxy


def test_macos() -> None:
    found = sources.from_scutil(SCUTIL)
    assert (found.http, found.https) == (Upstream("127.0.0.1", 3128), Upstream("proxy.corp.example", 3129))
    for host in ("a.local", "169.254.1.1", "intranet", "printer"):
        assert found.no_proxy.matches(host)
    assert not found.no_proxy.matches("scoped.example")
    assert not sources.from_scutil(SCUTIL.replace("Enable : 1", "Enable : 0")).active
    pac = SCUTIL.replace(
        "ProxyAutoConfigEnable : 0", "ProxyAutoConfigEnable : 1\n  ProxyAutoConfigURLString : http://x/p.pac"
    )
    assert sources.from_scutil(pac).pac == "http://x/p.pac"
    user = sources.from_scutil(SCUTIL.replace("HTTPEnable : 1", "HTTPEnable : 1\n  HTTPUser : me", 1))
    assert "keychain" in user.problems[0]
    assert sources.from_scutil("<dictionary> {\n}\n") == ProxySettings(source="macOS' settings")


def test_vpnkit_json() -> None:
    text = json.dumps(
        {
            "http": "http://a:1",
            "https": "a:2",
            "exclude": MAC_DEFAULT,
            "transparent_http_ports": [80, 8080],
            "allow_enabled": True,
            "allow": ["mit.edu"],
            "allow_error_msg": "not %s",
        }
    )
    found = sources.from_json(text)
    assert (found.http, found.https, found.http_ports) == (Upstream("a", 1), Upstream("a", 2), (80, 8080))
    assert found.no_proxy.matches("169.254.9.9")
    assert found.permits("http", "dave.mit.edu", 80, "/")
    assert not found.permits("http", "example.com", 80, "/")
    assert sources.from_json("{}").offered
    assert not sources.from_json('{"http": ""}').active


MAC_DEFAULT = "*.local, 169.254/16"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"http": 1}',
        '{"transparent_http_ports": [0]}',
        '{"transparent_https_ports": 443}',
        '{"http": "socks5://a:1"}',
        '{"allow_enabled": true, "allow": [1]}',
        '{"exclude": "a:b"}',
    ],
)
def test_what_is_no_settings(text: str) -> None:
    with pytest.raises(ConfigError):
        sources.from_json(text)


def test_options_come_on_top() -> None:
    environ = {"http_proxy": "http://a:1", "https_proxy": "http://b:1", "no_proxy": "x.test"}
    settings = Finder(Config(http_proxy="http://c:1", allow_host=("y.test",)), environ, print).look()
    assert (settings.http, settings.https) == (Upstream("c", 1), Upstream("b", 1))
    assert settings.no_proxy.matches("x.test")
    assert settings.permits("https", "y.test", 443, None)
    assert not settings.permits("https", "x.test", 443, None)
    assert not Finder(Config(proxy="off"), environ, print).look().active
    with pytest.raises(ConfigError, match="http_proxy"):
        Finder(Config(http_proxy="ftp://x"), {}, print)


def test_file_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "http.json"
    told: list[str] = []
    finder = Finder(Config(http_settings=str(path)), {"http_proxy": "http://not-heard:1"}, told.append)
    assert finder.watches
    assert not finder.look().active

    def write(text: str) -> ProxySettings:
        new = tmp_path / "new"
        new.write_text(text)
        os.replace(new, path)
        return finder.look()

    assert write('{"http": "http://a:1"}').http == Upstream("a", 1)
    assert write('{"http": ').http == Upstream("a", 1)  # left as it was
    assert len(told) == 1
    assert write('{"https": "http://b:1"}') == ProxySettings(
        https=Upstream("b", 1), offered=True, source=str(path)
    )
    path.unlink()
    assert not finder.look().active
    assert len(told) == 1


def test_desktop_is_asked_again_when_its_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "gsettings"
    output = tmp_path / "output"
    output.write_text(GSETTINGS)
    program.write_text(f"#!/bin/sh\necho x >> {tmp_path}/asked\ncat {output}\n")
    program.chmod(0o755)
    environ = {"DISPLAY": ":0", "PATH": f"{tmp_path}:{os.environ['PATH']}", "XDG_CONFIG_HOME": str(tmp_path)}
    monkeypatch.setenv("PATH", environ["PATH"])
    assert present(Config(), environ)
    finder = Finder(Config(), environ, print)
    assert finder.look().http == finder.look().http == Upstream("proxy.corp.example", 8080, "me", "p@ss:word")
    assert (tmp_path / "asked").read_text().count("x") == 1
    output.write_text(GSETTINGS.replace("8080", "8081"))
    (tmp_path / "dconf").mkdir()
    (tmp_path / "dconf" / "user").write_text("new")
    http = finder.look().http
    assert http is not None
    assert http.port == 8081


def test_gsettings_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GNOME's program with GNOME's schema, and a file for its settings: it needs no session for that."""
    schemas = [
        folder / "org.gnome.system.proxy.gschema.xml"
        for folder in (
            Path("/usr/share/glib-2.0/schemas"),
            UNPACKED / "usr" / "share" / "glib-2.0" / "schemas",
        )
    ]
    schema = next((path for path in schemas if path.exists()), None)
    for program in ("gsettings", "glib-compile-schemas"):
        if shutil.which(program) is None:
            pytest.skip(f"the program {program!r} is missing")
    if schema is None:
        pytest.skip("gsettings-desktop-schemas is missing")
    for path in schema.parent.glob("org.gnome.desktop.enums.xml"):
        shutil.copy(path, tmp_path)
    shutil.copy(schema, tmp_path)
    subprocess.run(["glib-compile-schemas", str(tmp_path)], check=True, capture_output=True)
    monkeypatch.setenv("GSETTINGS_SCHEMA_DIR", str(tmp_path))
    monkeypatch.setenv("GSETTINGS_BACKEND", "keyfile")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def say(path: str, key: str, value: str) -> None:
        subprocess.run(["gsettings", "set", f"org.gnome.system.proxy{path}", key, value], check=True)

    environ = {**os.environ, "DISPLAY": ":0"}
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for spelling in (name, name.upper()):
            environ.pop(spelling, None)
    finder = Finder(Config(), environ, print)
    assert not finder.look().active  # as GNOME comes
    say(".http", "host", "proxy.corp.example")
    say(".http", "port", "8080")
    say(".https", "host", "secure.corp.example")
    say(".https", "port", "8443")
    say("", "ignore-hosts", "['localhost', '*.corp.example', '10.0.0.0/8']")
    say("", "mode", "manual")
    found = finder.look()  # it has seen the file change
    assert (found.http, found.https) == (
        Upstream("proxy.corp.example", 8080),
        Upstream("secure.corp.example", 8443),
    )
    assert found.no_proxy.matches("db.corp.example", 80)
    assert found.no_proxy.matches("10.1.2.3", 80)
    assert not found.no_proxy.matches("www.example", 80)
    say("", "mode", "none")
    assert not finder.look().active


def test_automatic_configuration_is_reported_once() -> None:
    told: list[str] = []
    finder = Finder(Config(), {}, told.append)
    finder._found = sources.from_gsettings("org.gnome.system.proxy mode 'auto'")
    finder.look()
    finder.look()
    assert len(told) == 1
    assert "not supported" in told[0]


def test_nothing_to_look_for() -> None:
    assert not present(Config(), {})
    assert not present(Config(proxy="off"), {"http_proxy": "http://a:1", "DISPLAY": ":0"})
    assert present(Config(proxy="off", allow_host=("a",)), {})


def test_guests_environment() -> None:
    environ = {"http_proxy": "http://u:p@127.0.0.1:3128", "NO_PROXY": "*.local, 169.254/16", "HOME": "/root"}
    out = guest_environment(environ, sources.from_environment(environ), plan(), False)
    assert out["http_proxy"] == out["HTTP_PROXY"] == "http://192.168.65.1:3128"
    assert "https_proxy" not in out
    assert out["HOME"] == "/root"
    assert out["no_proxy"] == out["NO_PROXY"]
    words = out["no_proxy"].split(",")
    assert {".local", "169.254.0.0/16", "192.168.65.0/24", "192.168.65.2", "localhost", ".internal"} <= set(
        words
    )
    assert "u:p" not in str(out)
    socks = {"all_proxy": "socks5://127.0.0.1:1080", "http_proxy": "http://a:1"}
    assert guest_environment(socks, sources.from_environment(socks), plan(), False)["all_proxy"].startswith(
        "socks5"
    )
    assert guest_environment({"A": "b"}, ProxySettings(), plan(), False) == {"A": "b"}


def test_routes() -> None:
    proxy = Upstream("p", 1)
    settings = ProxySettings(http=proxy, https=proxy, no_proxy=sources.parse_hosts("x.test:8080,10/8"))
    assert settings.route("http", "x.test", 80) == proxy
    assert settings.route("http", "x.test", 8080) is None
    assert settings.route("https", "y.test", 443, "10.1.1.1") is None
    assert ProxySettings(https=proxy).route("http", "x.test", 80) is None
    assert ProxySettings(https=proxy).diverted() == ((), (443,))
    assert ProxySettings().diverted() == ((), ())


@pytest.mark.parametrize(
    ("host", "local", "forbidden"),
    [
        ("192.168.65.2", "192.168.65.2", False),
        ("host.internal", "192.168.65.2", False),
        ("HOST.docker.internal.", "192.168.65.2", False),
        ("gateway.internal", "192.168.65.1", False),
        ("nobody.internal", "", False),
        ("example.com", None, False),
        ("localhost", None, True),
        ("x.localhost", None, True),
        ("127.0.0.1", None, True),
        ("127.1", None, True),
        ("2130706433", None, True),
        ("0x7f000001", None, True),
        ("::1", None, True),
        ("::ffff:127.0.0.1", None, True),
        ("0.0.0.0", None, True),
        ("8.8.8.8", None, False),
    ],
)
def test_plan(host: str, local: str | None, forbidden: bool) -> None:
    assert plan().local(host) == local
    assert plan().forbidden(host) is forbidden
    assert plan(host_alias=None).local("host.internal") == ""
