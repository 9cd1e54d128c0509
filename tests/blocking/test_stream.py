"""`penstock.blocking.Stream`: a plain iterator with the rules of CompletionStream."""

from __future__ import annotations

import gc
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import penstock
from penstock import StreamBusyError, StreamClosedError, StreamState, Timeouts
from penstock.blocking import Stream
from penstock.testing.replies import error_reply, sse_event, sse_reply, tokens
from penstock.testing.script import End, Pause, Repeat, Reset, Stall
from penstock.testing.server import becomes_true, serve_in_thread
from tests.support.blocking import (
    HELLO,
    SILENT,
    STALLED,
    client_of,
    in_thread,
    interrupted_when,
    interrupting_ends_of_waits,
    saying,
    slowly,
    stream_of,
)
from tests.support.chat import REQUEST


def text_of(stream: Stream[Any]) -> str:
    choices = stream.partial.choices
    return (choices[0].message.content or "") if choices else ""


# --- one stream ---


def test_nothing_is_sent_before_it_is_entered_or_read() -> None:
    with serve_in_thread(HELLO) as server, client_of(server) as client:
        stream = stream_of(client)
        assert isinstance(stream, Stream)
        assert stream.state.value == "new"
        assert (stream.status_code, dict(stream.headers), stream.request_id) == (None, {}, None)
        assert repr(stream) == "<Stream 'test-model' new>"
        assert server.connections == []
        with stream:
            assert stream.state.value == "open"
            assert len(server.requests) == 1
        iterator = iter(stream_of(client))
        assert len(server.requests) == 1
        next(iterator)
        assert len(server.requests) == 2
        list(iterator)


@pytest.mark.parametrize("entered", [True, False])
def test_chunks_and_the_end(entered: bool) -> None:
    reply = sse_reply(tokens("Hel", "lo", "!"), headers={"x-request-id": "r-1"})
    with serve_in_thread(reply) as server, client_of(server) as client:
        stream = stream_of(client)
        if entered:
            stream.__enter__()
        chunks = list(stream)
        assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "Hel", "lo", "!", None]
        assert stream.state is StreamState.COMPLETED
        assert list(stream) == []
        assert (stream.status_code, stream.request_id) == (200, "r-1")
        assert stream.headers["content-type"] == "text/event-stream"
        statistics = stream.statistics()
        assert (statistics.attempts, statistics.events) == (1, 5)
        stream.close()
        stream.close()
        # The connection was kept.
        assert text_of_whole(stream_of(client)) == "Hello!"
        assert len(server.connections) == 1


def text_of_whole(stream: Stream[Any]) -> str | None:
    content: str | None = stream.collect().choices[0].message.content
    return content


def test_partial_grows_as_chunks_are_handed_out() -> None:
    with serve_in_thread(HELLO) as server, client_of(server) as client:
        with stream_of(client) as stream:
            seen = []
            for _ in stream:
                seen.append(text_of(stream))
        assert seen == ["", "Hel", "Hello", "Hello!", "Hello!"]
        assert text_of(stream) == "Hello!"


def test_text_and_collect() -> None:
    with (
        serve_in_thread(HELLO) as server,
        client_of(server) as client,
        stream_of(client) as stream,
    ):
        assert next(stream.text) == "Hel"
        # Another look at the same stream.
        assert next(stream.text) == "lo"
        whole = stream.collect()
        assert whole.choices[0].message.content == "Hello!"
        assert whole.choices[0].finish_reason == "stop"
        assert list(stream.text) == []
        assert stream.collect() == whole


def test_tool_calls_are_announced_once_when_complete() -> None:
    def piece(**delta: Any) -> dict[str, Any]:
        first, *_ = tokens("x")
        return {**first, "choices": [{**first["choices"][0], "delta": {"tool_calls": [delta]}}]}

    def opened(index: int) -> dict[str, Any]:
        function = {"name": f"f{index}", "arguments": ""}
        return piece(index=index, id=f"call_{index}", type="function", function=function)

    events = [
        opened(0),
        piece(index=0, function={"arguments": '{"a": 1}'}),
        opened(1),
        piece(index=1, function={"arguments": "{}"}),
        tokens(finish="tool_calls")[-1],
    ]
    with serve_in_thread(sse_reply(events)) as server, client_of(server) as client:
        with stream_of(client) as stream:
            calls = [(call.function.name, call.function.arguments) for call in stream.tool_calls]
            assert calls == [("f0", '{"a": 1}'), ("f1", "{}")]
            assert stream.take_tool_call() is None
        with stream_of(client) as stream:
            stream.collect()
            first = stream.take_tool_call()
            assert first is not None
            assert first.id == "call_0"
            assert [call.id for call in stream.tool_calls] == ["call_1"]


def test_leaving_closes_the_connection_at_once() -> None:
    with serve_in_thread(STALLED) as server, client_of(server) as client:
        with stream_of(client) as stream:
            for _ in stream:
                break
            assert server.open_connections == 1
        assert becomes_true(lambda: server.open_connections == 0, seconds=2)
        assert server.connections[0].ended == "client closed"
        assert stream.state is StreamState.CLOSED
        with pytest.raises(StreamClosedError):
            next(stream)
        with pytest.raises(StreamClosedError):
            stream.collect()
        with pytest.raises(StreamClosedError):
            stream.__enter__()


def test_an_exception_of_the_body_comes_out_as_it_is() -> None:
    with serve_in_thread(STALLED) as server, client_of(server) as client:
        error = KeyError("mine")
        with pytest.raises(KeyError) as caught, stream_of(client) as stream:  # noqa: PT012
            next(stream)
            raise error
        assert caught.value is error
        assert becomes_true(lambda: server.open_connections == 0)


# --- errors ---


def test_errors_come_at_the_start() -> None:
    with serve_in_thread(error_reply(402, "no credits")) as server, client_of(server) as client:
        for start in (Stream.__enter__, Stream.__next__, Stream.collect, next_text):
            stream = stream_of(client)
            with pytest.raises(penstock.InsufficientCreditsError, match="no credits"):
                start(stream)
            assert stream.state is StreamState.FAILED
            # Never a clean end afterwards.
            with pytest.raises(penstock.InsufficientCreditsError):
                next(stream)
            stream.close()


def next_text(stream: Stream[Any]) -> str:
    return next(stream.text)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Reset(), penstock.StreamInterruptedError),
        (End(), penstock.StreamInterruptedError),
        (Stall(), penstock.ReadTimeout),
    ],
)
def test_a_fault_in_mid_stream_has_the_partial_answer(fault: Any, error: type[Exception]) -> None:
    reply = sse_reply([*tokens("Hel", "lo")[:3], Pause(0.01), fault], done=False)
    with serve_in_thread(reply) as server, client_of(server) as client:
        for read in (list, lambda stream: list(stream.text), Stream.collect):
            with stream_of(client, timeouts=Timeouts(read=0.03)) as stream:
                for _ in range(2):
                    with pytest.raises(error) as caught:
                        read(stream)
                    assert isinstance(caught.value, penstock.PenstockError)
                    assert caught.value.partial is not None
                    assert caught.value.partial.choices[0].message.content == "Hello"
                assert text_of(stream) == "Hello"
        assert len(server.requests) == 3


def test_an_incomplete_answer_is_an_error() -> None:
    reply = sse_reply(tokens("Hel", finish=None), done=False)
    with (
        serve_in_thread(reply) as server,
        client_of(server) as client,
        pytest.raises(penstock.IncompleteStreamError),
    ):
        list(stream_of(client))


def test_it_is_sent_again_only_before_the_first_byte() -> None:
    busy = error_reply(503, headers={"retry-after-ms": "1"})
    cut = sse_reply([*tokens("Hel")[:2], Reset()], done=False)
    with serve_in_thread([busy, busy, cut]) as server, client_of(server) as client:
        with pytest.raises(penstock.StreamInterruptedError):
            list(stream_of(client))
        assert len(server.requests) == 3


def test_time_in_the_body_is_free() -> None:
    reply = sse_reply(tokens("a", "b", "c"), one_segment_each=True)
    with (
        serve_in_thread(reply) as server,
        client_of(server) as client,
        stream_of(client, timeouts=Timeouts(idle=0.03)) as stream,
    ):
        assert next(stream.text) == "a"
        # Longer than any silence may be; then the rest has come, and nobody waits.
        time.sleep(0.05)
        assert becomes_true(lambda: server.connections[0].bytes_sent >= len(reply.data))
        assert list(stream.text) == ["b", "c"]


# --- interruptions ---


def test_ctrl_c_in_a_read_closes_the_connection_and_keeps_the_partial_answer() -> None:
    with serve_in_thread(STALLED) as server, client_of(server) as client:
        stream = stream_of(client)
        texts: list[str] = []
        with (  # noqa: PT012
            # In the read after the last text; between two reads it would be the caller's.
            interrupted_when(lambda: texts == ["a", "b"] and stream._reader is not None),
            pytest.raises(KeyboardInterrupt),
        ):
            for text in stream.text:
                texts.append(text)
        # When the exception is there, so is the end of the connection.
        assert stream.state is StreamState.CLOSED
        assert becomes_true(lambda: server.open_connections == 0, seconds=2)
        assert (texts, text_of(stream)) == (["a", "b"], "ab")
        with pytest.raises(StreamClosedError):
            next(stream.text)
        assert client.complete is not None


def test_text_goes_on_after_an_exception_in_a_read() -> None:
    # As a signal's handler may raise one: in a read that has not waited, nothing is lost.
    with (
        serve_in_thread(HELLO) as server,
        client_of(server) as client,
        stream_of(client) as stream,
    ):
        text = stream.text
        got = [next(text)]
        real = Stream.__next__

        def failing(self: Stream[Any]) -> Any:
            raise InterruptedError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Stream, "__next__", failing)
            with pytest.raises(InterruptedError):
                next(text)
        assert Stream.__next__ is real
        got += list(text)
        assert "".join(got) == "Hello!"


def test_ctrl_c_while_it_is_opened() -> None:
    with serve_in_thread([SILENT, HELLO]) as server, client_of(server) as client:
        stream = stream_of(client)
        with interrupted_when(lambda: server.requests), pytest.raises(KeyboardInterrupt):
            stream.__enter__()
        assert becomes_true(lambda: server.open_connections == 0, seconds=2)
        assert stream.state not in (StreamState.OPEN, StreamState.FLOWING)


def test_ctrl_c_when_it_has_just_been_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_in_thread(STALLED) as server, client_of(server) as client:
        stream = stream_of(client)
        with interrupting_ends_of_waits(monkeypatch), pytest.raises(KeyboardInterrupt):
            stream.__enter__()
        assert len(server.requests) == 1
        assert becomes_true(lambda: server.open_connections == 0, seconds=2)
        assert stream.state is StreamState.CLOSED


# --- threads ---


def test_two_threads_on_one_stream() -> None:
    with serve_in_thread(STALLED) as server, client_of(server) as client:
        with stream_of(client) as stream:
            with in_thread(lambda: list(stream)) as outcome:
                assert becomes_true(lambda: text_of(stream) == "ab")
                reads: list[Callable[[], object]] = [
                    stream.__next__,
                    stream.collect,
                    lambda: next(stream.text),
                    stream.__enter__,
                ]
                for read in reads:
                    with pytest.raises(StreamBusyError):
                        read()
                # Looking is allowed.
                assert stream.statistics().events == 3
                assert stream.state is StreamState.FLOWING
                assert stream.take_tool_call() is None
                stream.close()
            assert isinstance(outcome[0], StreamClosedError)
            assert "closed" in str(outcome[0])
        assert becomes_true(lambda: server.open_connections == 0)


@pytest.mark.parametrize("moment", ["opening", "reading", "collecting"])
def test_closing_from_another_thread_wakes_the_reader(moment: str) -> None:
    script = SILENT if moment == "opening" else STALLED
    with serve_in_thread(script) as server, client_of(server) as client:
        stream = stream_of(client)
        read = stream.collect if moment == "collecting" else lambda: list(stream)
        with in_thread(read) as outcome:
            assert becomes_true(
                lambda: server.requests and (moment == "opening" or stream.statistics().events == 3)
            )
            stream.close()
            assert becomes_true(lambda: outcome, seconds=2)
        assert isinstance(outcome[0], StreamClosedError)
        assert becomes_true(lambda: server.open_connections == 0, seconds=2)


def test_a_stream_passed_from_thread_to_thread() -> None:
    with serve_in_thread(slowly) as server, client_of(server) as client:
        stream = client.chat.completions.stream(**saying("abcdefgh"))
        texts: list[str] = []
        text = stream.text
        while True:
            with in_thread(lambda: next(text, None)) as outcome:
                pass
            if outcome[0] is None:
                break
            texts.append(outcome[0])
        assert texts == list("abcdefgh")


def test_threads_that_take_turns_never_get_a_chunk_twice() -> None:
    words = [f"{number} " for number in range(3000)]
    with serve_in_thread(sse_reply(tokens(*words))) as server, client_of(server) as client:
        stream = stream_of(client)
        taken: list[list[str]] = [[] for _ in range(4)]

        def take(mine: list[str]) -> None:
            while True:
                try:
                    mine.append(next(stream.text))
                except StreamBusyError:
                    continue
                except StopIteration:
                    return

        threads = [threading.Thread(target=take, args=(mine,)) for mine in taken]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert "".join(words).startswith(text_of(stream))
        for thread in threads:
            thread.join()
        assert sorted(word for mine in taken for word in mine) == sorted(words)
        assert text_of(stream) == "".join(words)


def test_closing_amid_reads_never_breaks_anything() -> None:
    words = [str(number) for number in range(500)]
    with serve_in_thread(sse_reply(tokens(*words))) as server, client_of(server) as client:
        for turn in range(40):
            stream = stream_of(client)
            next(stream)
            with in_thread(stream.collect) as outcome:
                while turn % 4 and stream.statistics().events < 100 * turn // 8 and not outcome:
                    pass
                stream.close()
            assert isinstance(outcome[0], penstock.ChatCompletion | StreamClosedError)
            assert "".join(words).startswith(text_of(stream))


# --- forgotten ---


def test_a_forgotten_stream_warns_and_is_closed_at_once() -> None:
    with serve_in_thread(STALLED) as server, client_of(server) as client:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in client.chat.completions.create(**REQUEST, stream=True):
                break
            assert becomes_true(lambda: server.open_connections == 0, seconds=2)
        (warning,) = caught
        assert warning.category is ResourceWarning
        assert "<Stream 'test-model' flowing>" in str(warning.message)
        assert "close()" in str(warning.message)


def test_a_forgotten_stream_gives_its_slot_back() -> None:
    limiter = penstock.Limiter(1)
    with (
        serve_in_thread([STALLED, HELLO]) as server,
        client_of(server, limiter=limiter) as client,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        holder = [stream_of(client)]
        next(holder[0])
        with in_thread(lambda: client.complete(REQUEST)) as outcome:
            assert becomes_true(lambda: limiter.statistics().waiting == 1)
            holder.clear()
            gc.collect()
            assert becomes_true(lambda: outcome, seconds=2)
        assert outcome[0].choices[0].message.content == "Hello!"
        assert becomes_true(lambda: limiter.statistics().in_flight == 0)


def test_forgotten_ones_that_need_no_warning() -> None:
    with (
        serve_in_thread(HELLO) as server,
        client_of(server) as client,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        stream_of(client)
        list(stream_of(client))
        stream_of(client).collect()
        closed = stream_of(client)
        next(closed)
        closed.close()
        del closed
        gc.collect()


def test_a_stream_in_a_cycle_that_the_loops_own_thread_collects() -> None:
    with (
        serve_in_thread(STALLED) as server,
        client_of(server) as client,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        holder: list[Any] = [stream_of(client)]
        next(holder[0])
        holder.append(holder)
        del holder

        async def collect() -> None:
            gc.collect()

        client.loop.run(collect)
        assert becomes_true(lambda: server.open_connections == 0, seconds=2)


# --- memory ---


def test_a_consumer_that_stops_reading_stops_the_server() -> None:
    first, *_ = tokens("x" * 1000)
    endless = sse_reply([Repeat(sse_event(first) * 50)], done=False)
    with serve_in_thread(endless) as server, client_of(server) as client:
        with stream_of(client) as stream:
            next(stream)

            def settled() -> bool:
                before = server.connections[0].bytes_sent
                time.sleep(0.05)
                return server.connections[0].bytes_sent == before

            assert becomes_true(settled)
            # What the kernel buffers, and a bit of ours.
            assert server.connections[0].bytes_sent < 16_000_000
            taken = stream.statistics().bytes
            assert taken < 1_000_000
            for _ in range(2000):
                next(stream)
        assert becomes_true(lambda: server.open_connections == 0)
