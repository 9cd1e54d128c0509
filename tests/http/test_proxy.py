from __future__ import annotations

import base64
import copy
import os
import pickle
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._http.proxy import Proxy, proxy_from_environment
from penstock._wire.url import Origin

HTTP = Origin("http", "api.test", 80)
HTTPS = Origin("https", "api.test", 443)
SIX = Origin("https", "::1", 8443)
LOCAL = Origin("http", "127.0.0.1", 8000)

# --- the URL ---

DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}

schemes = st.sampled_from(list(DEFAULT_PORTS))
hosts = st.sampled_from(["proxy.test", "10.0.0.1", "localhost", "[::1]"])
ports = st.none() | st.integers(1, 65535)
words = st.text(string.ascii_letters + string.digits + "äü@:/?#%[] &", min_size=1, max_size=12)


def quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


@given(schemes, hosts, ports, st.none() | st.tuples(words, st.none() | words), st.booleans())
def test_every_part_of_the_url(
    scheme: str, host: str, port: int | None, user: tuple[str, str | None] | None, upper: bool
) -> None:
    name, password = user or (None, None)
    url = f"{scheme.upper() if upper else scheme}://"
    if name is not None:
        url += quoted(name) + ("" if password is None else f":{quoted(password)}") + "@"
    url += host + ("" if port is None else f":{port}")
    proxy = Proxy.parse(url)
    assert proxy.scheme == scheme
    assert proxy.host == host.strip("[]")
    assert proxy.port == (port or DEFAULT_PORTS[scheme])
    assert proxy.username == name
    assert (proxy.password or None) == password
    assert proxy.is_socks == scheme.startswith("socks")
    if name is None:
        assert proxy.authorization == []
    else:
        ((header, value),) = proxy.authorization
        assert header == b"Proxy-Authorization"
        pair = base64.b64decode(value.removeprefix(b"Basic ")).decode()
        assert pair == f"{name}:{password or ''}"


def test_without_a_scheme_it_is_http() -> None:
    assert Proxy.parse("proxy.test:3128") == Proxy("http", "proxy.test", 3128)
    assert Proxy.parse("me:secret@proxy.test") == Proxy("http", "proxy.test", 80, "me", "secret")


def test_a_password_without_a_name() -> None:
    proxy = Proxy.parse("http://:token@proxy.test")
    assert (proxy.username, proxy.password) == ("", "token")
    assert proxy.authorization == [(b"Proxy-Authorization", b"Basic OnRva2Vu")]
    assert Proxy.parse("http://@proxy.test").username is None


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://proxy.test", "scheme"),
        ("proxy://x", "scheme"),
        ("http://me:pass/word@proxy.test", "percent-encoded"),
        ("http://me:pass?word@proxy.test", "percent-encoded"),
        ("http://me:pass#word@proxy.test", "percent-encoded"),
        ("http://", "no host"),
        ("http://:3128", "no host"),
        ("", "no host"),
        ("http://proxy.test:port", "port"),
        ("http://proxy.test:70000", "port"),
        ("http://proxy.test:-1", "port"),
        ("http://[::1", "URL"),
        ("http://proxy.test\u2100", "URL"),
        ("http://elsewhere.test\\.proxy.test", "host"),
        ("http://pr\u00f6xy.test", "host"),
        ("http://proxy.test\u0085", "control"),
        ("http://proxy.test\n", "control"),
        (" http://proxy.test", "blanks"),
        ("http://me:\udcff@proxy.test", "Unicode"),
    ],
)
def test_what_is_wrong_with_a_url(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Proxy.parse(url)


SECRET = "hunter2xyz"
around = st.text(st.sampled_from("a1@:/?#%[]\\&= \u2100\u00e4._-"), max_size=6)


def shown(proxy: Proxy) -> str:
    rich = getattr(proxy, "__rich_repr__", lambda: ())
    return f"{proxy!r} {proxy} {[proxy]} {list(rich())}"


@given(
    st.sampled_from(["http://", "https://", "socks5://", "ftp://", "http:/", "//", ""]),
    st.sampled_from(["user:", ":", "us/er:", "user"]),
    around,
    around,
    st.sampled_from(["@proxy.test", "@proxy.test:port", "@", "@[::1", "@:99999", "@proxy.test/@"]),
)
def test_the_password_is_never_shown(
    scheme: str, user: str, before: str, after: str, rest: str
) -> None:
    """Also where it is not quoted as it should be, and in errors."""
    try:
        text = shown(Proxy.parse(f"{scheme}{user}{before}{SECRET}{after}{rest}"))
    except ValueError as error:
        text = f"{error} {error!r}"
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        text += f" {cause!r}"
    assert SECRET not in text.lower()


def test_it_is_a_value() -> None:
    proxy = Proxy.parse("https://me:secret@proxy.test:1")
    assert pickle.loads(pickle.dumps(proxy)) == proxy
    assert copy.deepcopy(proxy) == proxy
    assert "proxy.test:1" in repr(proxy)


# --- the environment ---


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "REQUEST_METHOD":
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("variables", "origin", "expected"),
    [
        ({}, HTTPS, None),
        ({"HTTPS_PROXY": "http://a:1"}, HTTPS, "a"),
        ({"HTTPS_PROXY": "http://a:1"}, HTTP, None),
        ({"HTTP_PROXY": "http://a:1"}, HTTP, "a"),
        ({"HTTP_PROXY": "http://a:1"}, HTTPS, None),
        ({"ALL_PROXY": "socks5://a"}, HTTP, "a"),
        ({"ALL_PROXY": "socks5://a", "HTTPS_PROXY": "http://b"}, HTTPS, "b"),
        ({"all_proxy": "a:3128"}, HTTPS, "a"),
        ({"HTTPS_PROXY": "http://a", "https_proxy": "http://b"}, HTTPS, "b"),
        ({"HTTPS_PROXY": ""}, HTTPS, None),
        ({"HTTPS_PROXY": " http://a:1 "}, HTTPS, "a"),
        ({"HTTP_PROXY": "http://a", "REQUEST_METHOD": "GET"}, HTTP, None),
        ({"HTTPS_PROXY": "http://a", "NO_PROXY": "*"}, HTTPS, None),
        ({"HTTPS_PROXY": "http://a", "NO_PROXY": "api.test"}, HTTPS, None),
        ({"HTTPS_PROXY": "http://a", "NO_PROXY": "test"}, HTTPS, None),
        ({"HTTPS_PROXY": "http://a", "no_proxy": "x.org, .test"}, HTTPS, None),
        ({"HTTPS_PROXY": "http://a", "NO_PROXY": "pi.test,x"}, HTTPS, "a"),
        ({"HTTPS_PROXY": "http://a", "NO_PROXY": "api.test:443"}, HTTPS, None),
        ({"HTTPS_PROXY": "http://a", "NO_PROXY": "api.test:444"}, HTTPS, "a"),
        ({"HTTPS_PROXY": "http://a", "NO_PROXY": "::1"}, SIX, None),
        ({"HTTPS_PROXY": "http://a", "NO_PROXY": "[::1]"}, SIX, None),
        ({"HTTPS_PROXY": "http://a", "NO_PROXY": "[::1]:443"}, SIX, "a"),
        ({"HTTPS_PROXY": "http://a", "NO_PROXY": "::/64"}, SIX, None),
        ({"HTTPS_PROXY": "http://a", "NO_PROXY": "*.test"}, HTTPS, None),
        ({"HTTPS_PROXY": "http://a", "NO_PROXY": "x.org .test"}, HTTPS, None),
        ({"HTTP_PROXY": "http://a", "no_proxy": "127.0.0.0/8"}, LOCAL, None),
        ({"HTTP_PROXY": "http://a", "no_proxy": "10.0.0.0/8"}, LOCAL, "a"),
        ({"NO_PROXY": "api.test"}, HTTPS, None),
        ({"FTP_PROXY": "http://a"}, HTTPS, None),
    ],
)
def test_the_environment(
    environment: pytest.MonkeyPatch,
    variables: dict[str, str],
    origin: Origin,
    expected: str | None,
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    proxy = proxy_from_environment(origin)
    assert (proxy and proxy.host) == expected


def test_a_bad_url_in_the_environment(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HTTPS_PROXY", f"ftp://me:{SECRET}@proxy.test")
    with pytest.raises(ValueError, match="scheme") as caught:
        proxy_from_environment(HTTPS)
    assert SECRET not in str(caught.value)
