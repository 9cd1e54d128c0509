from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._http.no_proxy import bypasses_proxy

# host, port, NO_PROXY, matches: the rules that curl documents (CURLOPT_NOPROXY, "no_proxy").
TABLE = [
    # names: the domain and what is below it
    ("local.com", 80, "local.com", True),
    ("www.local.com", 80, "local.com", True),
    ("a.b.local.com", 80, "local.com", True),
    ("www.notlocal.com", 80, "local.com", False),
    ("notlocal.com", 80, "local.com", False),
    ("local.com", 80, "www.local.com", False),
    ("LOCAL.com", 80, "local.COM", True),
    ("localhost", 80, "localhost", True),
    ("api.localhost", 80, "localhost", True),
    ("com", 80, "local.com", False),
    # a dot in front, or a star and a dot
    ("local.com", 80, ".local.com", True),
    ("www.local.com", 80, ".local.com", True),
    ("notlocal.com", 80, ".local.com", False),
    ("www.local.com", 80, "*.local.com", True),
    ("a.b.local.com", 80, "*.local.com", True),
    ("notlocal.com", 80, "*.local.com", False),
    # a dot at the end
    ("local.com.", 80, "local.com", True),
    ("local.com", 80, "local.com.", True),
    ("www.local.com.", 80, ".local.com.", True),
    # ports
    ("local.com", 80, "local.com:80", True),
    ("local.com", 443, "local.com:80", False),
    ("www.local.com", 8080, ".local.com:8080", True),
    ("www.local.com", 8080, "*.local.com:8081", False),
    ("127.0.0.1", 8080, "127.0.0.1:8080", True),
    ("127.0.0.1", 8081, "127.0.0.1:8080", False),
    ("::1", 8080, "[::1]:8080", True),
    ("::1", 8081, "[::1]:8080", False),
    ("10.1.2.3", 8080, "10.0.0.0/8:8080", True),
    # addresses
    ("192.168.0.1", 80, "192.168.0.1", True),
    ("192.168.0.10", 80, "192.168.0.1", False),
    ("10.0.0.1", 80, "0.0.1", False),
    ("10.0.0.1", 80, ".0.0.1", False),
    ("::1", 80, "::1", True),
    ("::1", 80, "[::1]", True),
    ("::1", 80, "0:0:0:0:0:0:0:1", True),
    ("fe80::1%eth0", 80, "fe80::/10", True),
    ("::2", 80, "::1", False),
    ("::1", 80, "127.0.0.1", False),
    # networks
    ("127.0.0.1", 80, "127.0.0.0/8", True),
    ("127.255.1.2", 80, "127.0.0.0/8", True),
    ("128.0.0.1", 80, "127.0.0.0/8", False),
    ("192.168.1.77", 80, "192.168.0.0/16", True),
    ("192.168.1.77", 80, "192.168.1.64/26", True),
    ("192.168.1.128", 80, "192.168.1.64/26", False),
    ("192.168.1.1", 80, "192.168.1.1/32", True),
    ("192.168.1.2", 80, "192.168.1.1/32", False),
    ("10.9.8.7", 80, "10.1.2.3/8", True),
    ("10.9.8.7", 80, "10.0.0.0/33", False),
    ("10.9.8.7", 80, "10.0.0.0/x", False),
    ("::1", 80, "::1/128", True),
    ("::2", 80, "::1/128", False),
    ("fd00::17", 80, "fd00::/8", True),
    ("fe00::17", 80, "[fd00::]/8", False),
    ("fd00::17", 80, "[fd00::]/8", True),
    # a name is not resolved
    ("localhost", 80, "127.0.0.0/8", False),
    ("localhost", 80, "127.0.0.1,::1", False),
    # everything, nothing
    ("local.com", 80, "*", True),
    ("::1", 80, "*", True),
    ("local.com", 80, "", False),
    ("local.com", 80, " , ,, ", False),
    ("local.com", 80, ".", False),
    ("local.com", 80, "*.", False),
    ("local.com", 80, ":80", False),
    ("local.com", 80, "[", False),
    ("local.com", 80, "local.com:http", False),
    # lists, by commas or blanks
    ("b.com", 80, "a.com,b.com", True),
    ("b.com", 80, "a.com, b.com", True),
    ("b.com", 80, "a.com b.com", True),
    ("b.com", 80, " a.com ,\t b.com ,", True),
    ("b.com", 80, ",,b.com", True),
    ("c.com", 80, "a.com,b.com", False),
    ("127.0.0.1", 80, "localhost,127.0.0.0/8,::1", True),
]


@pytest.mark.parametrize(("host", "port", "no_proxy", "matches"), TABLE)
def test_the_rules_of_curl(host: str, port: int, no_proxy: str, matches: bool) -> None:
    assert bypasses_proxy(host, port, no_proxy) == matches
    # Other entries around it change nothing.
    assert bypasses_proxy(host, port, f"x.test,{no_proxy},10.255.255.255/32") == matches


labels = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=5)
names = (
    st.lists(labels, min_size=1, max_size=4)
    .map(".".join)
    .filter(lambda name: not name.rpartition(".")[2].isdecimal())
)


@given(names, names)
def test_a_domain_is_its_labels_from_the_right(name: str, domain: str) -> None:
    expected = name.split(".")[-len(domain.split(".")) :] == domain.split(".")
    for form in (domain, f".{domain}", f"*.{domain}", f"{domain}.", f"{domain}:443"):
        assert bypasses_proxy(name, 443, form) == expected


@given(st.ip_addresses(v=4), st.ip_addresses(v=4), st.integers(0, 32))
def test_a_network_is_a_prefix(address: object, network: object, bits: int) -> None:
    expected = int(address) >> (32 - bits) == int(network) >> (32 - bits)  # type: ignore[call-overload]
    assert bypasses_proxy(str(address), 80, f"{network}/{bits}") == expected


@given(st.text(max_size=20))
def test_junk_is_no_error(text: str) -> None:
    for host in ("example.com", "127.0.0.1", "::1"):
        assert bypasses_proxy(host, 80, text) in (False, True)
