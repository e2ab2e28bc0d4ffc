"""resolv.conf: what it may say, what it may not, and how a change of it is noticed."""

import os

import pytest

from netstack.errors import ConfigError
from netstack.services.resolv_conf import (
    ResolvConf,
    ResolvConfWatcher,
    parse_resolv_conf,
    parse_upstream,
    parse_upstreams,
)


def test_everything_in_one_file():
    conf = parse_resolv_conf(
        "# written by hand\n"
        "; and so is this\n"
        "nameserver 10.0.0.1\n"
        "nameserver\t10.0.0.2   # the second\n"
        "nameserver 2001:DB8::1\n"
        "  nameserver fe80::1%eth0 ; link-local\n"
        "search Corp.Example. example.com\n"
        "options timeout:3 attempts:4 ndots:2 rotate edns0 trust-ad\n"
    )
    assert conf == ResolvConf(
        ("10.0.0.1", "10.0.0.2", "2001:db8::1", "fe80::1%eth0"), ("corp.example", "example.com"), 3, 4, 2
    )
    assert conf.upstreams == (
        ("10.0.0.1", 53),
        ("10.0.0.2", 53),
        ("2001:db8::1", 53),
        ("fe80::1%eth0", 53),
    )


def test_empty():
    assert parse_resolv_conf("") == ResolvConf()
    assert ResolvConf().upstreams == (("127.0.0.1", 53),)


@pytest.mark.parametrize(
    "line",
    [
        "nameserver",
        "nameserver not-an-address",
        "nameserver 10.0.0.256",
        "nameserver 10.0.0.1#5353",
        "nameservers 10.0.0.1",
        "NAMESERVER 10.0.0.1",
        "#nameserver 10.0.0.1",
        "search",
        "domain .",
        "options timeout: timeout:x timeout:-1 ndots:٣",
        "sortlist 130.155.160.0/255.255.240.0",
        "\0\ufffd",
    ],
)
def test_lines_that_are_skipped(line):
    assert parse_resolv_conf(f"{line}\nnameserver 9.9.9.9\n") == ResolvConf(("9.9.9.9",))


def test_last_of_search_and_domain_counts():
    assert parse_resolv_conf("search a b\ndomain c d\n").search == ("c",)
    assert parse_resolv_conf("domain c\nsearch a b\n").search == ("a", "b")


def test_options_are_bounded():
    conf = parse_resolv_conf("options timeout:999999999999 attempts:0 ndots:99\noptions timeout:7\n")
    assert (conf.timeout, conf.attempts, conf.ndots) == (7, 1, 15)
    assert parse_resolv_conf("options timeout:999999999999").timeout == 30
    assert parse_resolv_conf("options timeout:0").timeout == 1


def test_repeated_server_counts_once():
    assert parse_resolv_conf("nameserver ::1\nnameserver 0:0::1\r\n").nameservers == ("::1",)


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        ("10.0.0.1", ("10.0.0.1", 53)),
        ("10.0.0.1#5353", ("10.0.0.1", 5353)),
        ("10.0.0.1:5353", ("10.0.0.1", 5353)),
        ("fd00::1", ("fd00::1", 53)),
        ("fd00::1#65535", ("fd00::1", 65535)),
        ("fe80::1%eth0#1", ("fe80::1%eth0", 1)),
        ("[fd00::1]:5353", ("fd00::1", 5353)),
        ("[fd00::1]", ("fd00::1", 53)),
        ("[fe80::1%wlan0]:53", ("fe80::1%wlan0", 53)),
    ],
)
def test_upstream(text, upstream):
    assert parse_upstream(text) == upstream


@pytest.mark.parametrize(
    "text",
    [
        "",
        "#53",
        "dns.example",
        "10.0.0",
        "10.0.0.1#",
        "10.0.0.1#0",
        "10.0.0.1#65536",
        "10.0.0.1#x",
        "10.0.0.1#5#5",
        "[fd00::1",
        "[fd00::1]5353",
        "[fd00::1]:",
        "[]:53",
        "fd00::1]:53",
        "10.0.0.1:",
        "10.0.0.1#٣",
        "1.2.3.4#+53",
    ],
)
def test_upstream_refused(text):
    with pytest.raises(ConfigError, match="DNS server"):
        parse_upstream(text)


def test_upstreams():
    assert parse_upstreams(["::1", "1.2.3.4#99", "::1"]) == (("::1", 53), ("1.2.3.4", 99))
    with pytest.raises(ConfigError):
        parse_upstreams([])


class TestWatcher:
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "resolv.conf"

    def test_change_in_place_and_no_change(self, path):
        path.write_text("nameserver 10.0.0.1\n")
        watcher = ResolvConfWatcher(str(path))
        assert watcher.conf.nameservers == ("10.0.0.1",)
        assert not watcher.changed()
        path.write_text("nameserver 10.0.0.22\n")
        assert watcher.changed()
        assert watcher.conf.nameservers == ("10.0.0.22",)
        assert not watcher.changed()

    def test_replaced_by_rename_with_the_same_size_and_time(self, path, tmp_path):
        path.write_text("nameserver 10.0.0.1\n")
        os.utime(path, ns=(10**18, 10**18))
        watcher = ResolvConfWatcher(str(path))
        other = tmp_path / "new"
        other.write_text("nameserver 10.0.0.2\n")
        os.utime(other, ns=(10**18, 10**18))
        other.rename(path)
        assert watcher.changed()
        assert watcher.conf.nameservers == ("10.0.0.2",)

    def test_touched_without_a_difference(self, path):
        path.write_text("nameserver 10.0.0.1\n")
        watcher = ResolvConfWatcher(str(path))
        os.utime(path, ns=(5, 5))
        assert not watcher.changed()

    def test_symbolic_link_that_moves(self, path, tmp_path):
        for n in (1, 2):
            (tmp_path / f"r{n}").write_text(f"nameserver 10.0.0.{n}\n")
        path.symlink_to("r1")
        watcher = ResolvConfWatcher(str(path))
        assert watcher.conf.nameservers == ("10.0.0.1",)
        link = tmp_path / "link"
        link.symlink_to("r2")
        link.rename(path)
        assert watcher.changed()
        assert watcher.conf.nameservers == ("10.0.0.2",)
        (tmp_path / "r2").write_text("nameserver 10.0.0.33\n")
        assert watcher.changed()

    def test_away_and_back(self, path):
        path.write_text("nameserver 10.0.0.1\n")
        watcher = ResolvConfWatcher(str(path))
        path.unlink()
        assert not watcher.changed()
        assert watcher.conf.nameservers == ("10.0.0.1",)
        path.write_text("nameserver 10.0.0.1\n")
        assert not watcher.changed()
        path.unlink()
        assert not watcher.changed()
        path.write_text("nameserver 10.0.0.9\n")
        assert watcher.changed()
        assert watcher.conf.nameservers == ("10.0.0.9",)

    def test_dangling_link_and_directory(self, path, tmp_path):
        path.symlink_to("nowhere")
        watcher = ResolvConfWatcher(str(path))
        assert watcher.conf == ResolvConf()
        assert not watcher.changed()
        (tmp_path / "nowhere").mkdir()
        assert not watcher.changed()
        (tmp_path / "nowhere").rmdir()
        (tmp_path / "nowhere").write_text("nameserver 10.0.0.4\n")
        assert watcher.changed()

    def test_bytes_that_are_no_text(self, path):
        path.write_bytes(b"\xff\xfe\nnameserver 10.0.0.1\n\x80")
        assert ResolvConfWatcher(str(path)).conf.nameservers == ("10.0.0.1",)
