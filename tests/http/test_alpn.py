from __future__ import annotations

import pytest

from penstock._http.alpn import HTTP11, check_protocol
from penstock._http.network import ConnectionFailed


@pytest.mark.parametrize("selected", [None, HTTP11, "http/1.0"])
def test_http_1_and_no_choice_at_all(selected: str | None) -> None:
    check_protocol(selected)


@pytest.mark.parametrize("selected", ["h2", "h3", "spdy/3"])
def test_another_protocol_is_an_error_that_says_what_to_do(selected: str) -> None:
    with pytest.raises(ConnectionFailed, match=f"{selected}.*set_alpn_protocols") as caught:
        check_protocol(selected)
    assert caught.value.permanent
