"""SOCKS5 (RFC 1928), with the user name and password of RFC 1929 if there are any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .network import ConnectionFailed, Deadline, NetworkStream

if TYPE_CHECKING:
    from .._wire.url import Origin
    from .proxy import Proxy

__all__ = ["connect_socks5"]

# The length of the address in a reply, by its type. A name (3) begins with its length.
_ADDRESS_SIZES = {1: 4, 4: 16}
_NAME = 3


async def connect_socks5(
    stream: NetworkStream, proxy: Proxy, origin: Origin, deadline: Deadline
) -> None:
    """Let the SOCKS proxy at the other end of `stream` connect it to the origin."""
    try:
        from socksio import ProtocolError, socks5
    except ImportError:
        raise ConnectionFailed(
            "a SOCKS proxy needs the socks extra: pip install 'penstock[socks]'",
            permanent=True,
        ) from None

    connection: Any = socks5.SOCKS5Connection()
    answers = _Answers(stream, deadline)
    user, password = (proxy.username or "").encode(), (proxy.password or "").encode()
    if max(len(user), len(password)) > 255:
        raise ConnectionFailed(
            "a user name or password for SOCKS must be at most 255 bytes", permanent=True
        )
    methods = [socks5.SOCKS5AuthMethod.NO_AUTH_REQUIRED]
    if proxy.username is not None:
        methods.append(socks5.SOCKS5AuthMethod.USERNAME_PASSWORD)

    async def send(request: Any) -> None:
        connection.send(request)
        await stream.send(connection.data_to_send(), deadline)

    def understood(answer: bytes) -> Any:
        try:
            return connection.receive_data(answer)
        except ProtocolError as error:
            raise _misunderstood(str(error)) from error

    await send(socks5.SOCKS5AuthMethodsRequest(methods))
    chosen = understood(await answers.versioned(2))
    if chosen.method not in methods:
        raise ConnectionFailed("the SOCKS proxy wants another authentication", permanent=True)
    if chosen.method == socks5.SOCKS5AuthMethod.USERNAME_PASSWORD:
        await send(socks5.SOCKS5UsernamePasswordRequest(user, password))
        if not understood(await answers.exactly(2)).success:
            raise ConnectionFailed("the SOCKS proxy refused the password", permanent=True)
    address = (origin.host, origin.port)
    await send(socks5.SOCKS5CommandRequest.from_address(socks5.SOCKS5Command.CONNECT, address))
    reply = understood(await answers.reply())
    if reply.reply_code != socks5.SOCKS5ReplyCode.SUCCEEDED:
        raise ConnectionFailed(f"the SOCKS proxy could not connect: {reply.reply_code.name}")
    if answers.rest:
        raise ConnectionFailed("the SOCKS proxy sent bytes before the tunnel was in use")


class _Answers:
    """Reads whole replies, which socksio needs, from a connection that may deliver pieces."""

    def __init__(self, stream: NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline
        self.rest = b""

    async def exactly(self, size: int) -> bytes:
        while len(self.rest) < size:
            data = await self._stream.receive(self._deadline)
            if not data:
                raise ConnectionFailed("the SOCKS proxy closed the connection")
            self.rest += data
        answer, self.rest = self.rest[:size], self.rest[size:]
        return answer

    async def versioned(self, size: int) -> bytes:
        answer = await self.exactly(size)
        if answer[0] != 5:
            raise _misunderstood("it does not speak SOCKS5")
        return answer

    async def reply(self) -> bytes:
        answer = await self.versioned(4)
        kind = answer[3]
        if kind == _NAME:
            answer += await self.exactly(1)
            size = answer[4]
        elif kind in _ADDRESS_SIZES:
            size = _ADDRESS_SIZES[kind]
        else:
            raise _misunderstood("an unknown type of address")
        return answer + await self.exactly(size + 2)


def _misunderstood(reason: str) -> ConnectionFailed:
    return ConnectionFailed(f"the SOCKS proxy's reply is not understood: {reason}")
