"""URLs are parsed and checked before any I/O; host and port are formatted in one place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.query import Query
from penstock._wire.url import BaseURL, Origin

# --- base_url ---


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.test", ("https", "api.test", 443, "")),
        ("https://api.test/", ("https", "api.test", 443, "")),
        ("https://api.test/v1", ("https", "api.test", 443, "/v1")),
        ("https://api.test/v1/", ("https", "api.test", 443, "/v1")),
        ("https://api.test/v1//", ("https", "api.test", 443, "/v1")),
        ("http://api.test:8080/a/b/v1", ("http", "api.test", 8080, "/a/b/v1")),
        ("HTTP://API.Test/V1", ("http", "api.test", 80, "/V1")),
        ("http://[::1]:8080/v1", ("http", "::1", 8080, "/v1")),
        ("https://[2001:db8::1]/v1", ("https", "2001:db8::1", 443, "/v1")),
        ("http://[fe80::1%25eth0]/v1", ("http", "fe80::1%25eth0", 80, "/v1")),
        ("http://a_b-1.test/v1", ("http", "a_b-1.test", 80, "/v1")),
        ("http://127.0.0.1:80", ("http", "127.0.0.1", 80, "")),
        ("https://api.test:/v1", ("https", "api.test", 443, "/v1")),
        ("https://api.test/a%20b", ("https", "api.test", 443, "/a%20b")),
    ],
)
def test_a_base_url_is_taken_apart(url: str, expected: tuple[str, str, int, str]) -> None:
    parsed = BaseURL.parse(url)
    assert parsed == BaseURL(Origin(*expected[:3]), expected[3])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.test/v1",
        "//api.test/v1",
        "ftp://api.test",
        "file:///etc/passwd",
        "http://",
        "https:///v1",
        "http://:8080/v1",
        "http://api.test:port/v1",
        "http://api.test:99999/v1",
        "http://api.test:0/v1",
        "http://api.test:-1/v1",
        "http://[::1/v1",
        "http://[nonsense]/v1",
        "http://api.test/v1#part",
        "http://user@api.test/v1",
        "http://user:word@api.test/v1",
        "http://api .test/v1",
        "http://elsewhere.test\\.api.test/v1",
        "http://api%2Ftest/v1",
        "http://api,test/v1",
        " http://api.test/v1",
        "http://api.test/v1\n",
        "http://api.test/v1\r\nX-Evil: 1",
        "http://api.test/\x00",
        "http://api.test/\x7f",
        "http://bücher.test/v1",
        "http://api.test/über",
    ],
)
def test_what_is_no_base_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        BaseURL.parse(url)


def test_a_base_url_is_a_string() -> None:
    for value in (b"http://api.test", 5, None):
        with pytest.raises(TypeError, match="base_url"):
            BaseURL.parse(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2secret@api.test/v1",
        "ftp://user:hunter2secret@api.test/v1",
        "https://hunter2secret@api.test/v1",
        "user:hunter2secret@api.test/v1",
        "https://user:hunter2secret@api.test:port/v1",
        "https://user:hunter2secret@/v1",
        "https://api.test/v1#hunter2secret",
        "https://user:hunter2secret@api.test/v1?x=hunter2secret",
        "https://api.test:hunter2secret/v1",
        "https://user:hunter2secret@[nonsense]/v1",
    ],
)
def test_a_refusal_shows_no_secret_of_the_url(url: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - which one is tested above
        BaseURL.parse(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in f"{error!r}"
        error = None if error.__suppress_context__ else error.__context__


# --- targets ---


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/models", "/v1/models"),
        ("models", "/v1/models"),
        ("/endpoints/a b".replace(" ", "%20") + "/start", "/v1/endpoints/a%20b/start"),
        ("/files?limit=2&after=x", "/v1/files?limit=2&after=x"),
        ("/models/org/name:free", "/v1/models/org/name:free"),
        ("/files?next=https://elsewhere.test/", "/v1/files?next=https://elsewhere.test/"),
        ("/models/über", "/v1/models/%C3%BCber"),
        ("/a#b", "/v1/a%23b"),
        ('/a"<>\\^`{|}', "/v1/a%22%3C%3E%5C%5E%60%7B%7C%7D"),
    ],
)
def test_a_path_goes_below_the_base(path: str, target: str) -> None:
    assert BaseURL.parse("http://api.test/v1").target(path) == target


@pytest.mark.parametrize(
    ("url", "path", "target"),
    [
        ("http://api.test/v1?api-version=1", "/models", "/v1/models?api-version=1"),
        ("http://api.test?a=1&b=%2B", "/models?c=2", "/models?a=1&b=%2B&c=2"),
        ("http://api.test/v1/?a=1", "/models?a=2", "/v1/models?a=2"),
        ("http://api.test/v1?a=1", "/models?", "/v1/models?a=1"),
        ("http://api.test/v1?", "/models", "/v1/models"),
    ],
)
def test_a_query_of_the_base_is_kept(url: str, path: str, target: str) -> None:
    assert BaseURL.parse(url).target(path) == target


def test_which_query_wins() -> None:
    url = BaseURL.parse("http://api.test/v1?a=base&b=base&c=base&d=base")
    url = url.with_query(Query.of({"b": "default", "c": "default", "d": "default"}, "q"))
    target = url.target("/x?c=path&d=path", Query.of({"d": "call"}, "q"))
    assert target == "/v1/x?a=base&b=default&c=path&d=call"
    assert "base" not in f"{url} {url!r}".replace("BaseURL", "")


def test_a_path_below_a_bare_host() -> None:
    assert BaseURL.parse("http://api.test/").target("/models") == "/models"


@pytest.mark.parametrize(
    "path",
    [
        "https://elsewhere.test/models",
        "//elsewhere.test/models",
        "/a b",
        "/a\r\nHost: elsewhere.test",
        "/a\x00",
        "/a\x7f",
        "/a\t",
    ],
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        BaseURL.parse("http://api.test/v1").target(path)


@given(st.text(max_size=30))
def test_no_path_gets_out_of_its_line(path: str) -> None:
    try:
        target = BaseURL.parse("http://api.test/v1").target(path)
    except ValueError:
        return
    assert target.startswith("/v1/")
    assert all("!" <= char <= "~" for char in target)


# --- origins ---


@pytest.mark.parametrize(
    ("origin", "authority", "pair"),
    [
        (Origin("http", "a.test", 80), "a.test", "a.test:80"),
        (Origin("http", "a.test", 443), "a.test:443", "a.test:443"),
        (Origin("https", "a.test", 443), "a.test", "a.test:443"),
        (Origin("https", "::1", 443), "[::1]", "[::1]:443"),
        (Origin("https", "::1", 80), "[::1]:80", "[::1]:80"),
        (Origin("socks5", "a.test", 1080), "a.test:1080", "a.test:1080"),
    ],
)
def test_host_and_port(origin: Origin, authority: str, pair: str) -> None:
    assert (origin.authority, origin.host_and_port) == (authority, pair)
    assert str(origin) == f"{origin.scheme}://{pair}"
    assert str(BaseURL(origin, "/v1")) == f"{origin.scheme}://{pair}/v1"


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/models"])
@pytest.mark.parametrize("base", ["https://api.test", "https://api.test/v1/"])
def test_common_paths_are_like_others(path: str, base: str) -> None:
    url = BaseURL.parse(base)
    assert url.target(path) == url.target(path.removeprefix("/"))
    assert url.target(path, Query.of({"a": 1}, "query")) == url.target(f"{path}?a=1")
    other = url.with_query(Query.of({"b": 2}, "query"))
    assert other.target(path) == url.target(f"{path}?b=2")
