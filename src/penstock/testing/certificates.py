"""One certificate authority for the whole test run, and the TLS contexts that go with it."""

from __future__ import annotations

import functools
import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import trustme


@functools.cache
def _authority() -> trustme.CA:
    try:
        import trustme
    except ImportError:
        raise ImportError(
            'TLS in tests needs trustme, which makes certificates: pip install "penstock[testing]"'
        ) from None
    return trustme.CA()


@functools.cache
def server_ssl_context() -> ssl.SSLContext:
    """A server's context, with a certificate for 127.0.0.1 and localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate: Any = _authority().issue_cert("127.0.0.1", "localhost")
    certificate.configure_cert(context)  # its types mention pyOpenSSL, which is not there
    return context


@functools.cache
def client_ssl_context() -> ssl.SSLContext:
    """A client's context that trusts the authority."""
    context = ssl.create_default_context()
    authority: Any = _authority()
    authority.configure_trust(context)
    return context
