"""A cassette records what a server answers, and is the server from then on."""

from __future__ import annotations

import copy
import gzip
import json
import pickle
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest

import penstock
from penstock import APIStatusError, AsyncClient, Client, StreamInterruptedError, Timeouts
from penstock.compat.httpx2 import AsyncTransport
from penstock.testing.answers import text_reply, tool_calls_reply
from penstock.testing.cassette import Cassette, CassetteMode
from penstock.testing.clock import virtual
from penstock.testing.cuts import cut_after_events, every_byte
from penstock.testing.leaks import LeakError, no_leaks
from penstock.testing.memory import MemoryNetwork
from penstock.testing.not_recorded import NotRecordedError
from penstock.testing.replies import error_reply, json_reply, sse_reply, status_reply, tokens
from penstock.testing.script import End, Pause, RecordedRequest, Reply, Script, Stall, reply
from penstock.testing.server import serve, serve_in_thread
from penstock.testing.sweep import cancel_sweep
from tests.support.chat import KEY, REQUEST, URL, client_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from penstock.testing.sweep import BackendName

NOWHERE = MemoryNetwork([], refuse=10**9)


def asking(text: str, **members: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **members}


def echo(request: RecordedRequest) -> Reply:
    """Answer with the question, so that answers cannot be mixed up."""
    return text_reply("You said: ", request.json["messages"][-1]["content"])


def client(network: Any, **options: Any) -> AsyncClient:
    chosen: dict[str, Any] = {"api_key": KEY, "max_retries": 0, **options}
    return AsyncClient(URL, **chosen, network=network)


async def ask(network: Any, *texts: str, **options: Any) -> list[str]:
    async with client(network, **options) as made:
        return [(await made.complete(asking(text))).text for text in texts]


async def recorded(path: Path, script: Script, *texts: str) -> Cassette:
    """Record these questions."""
    cassette = Cassette(path, "record", network=MemoryNetwork(script))
    await ask(cassette, *texts)
    return cassette


def recording_then_replay(path: Path, script: Script) -> Iterator[Cassette]:
    yield Cassette(path, "record", network=MemoryNetwork(script))
    yield Cassette(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "answers.json"


# --- there and back ---


@pytest.mark.anyio
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_a_real_server_is_recorded_and_replayed(tls: bool, path: Path) -> None:
    script = [
        json_reply({"object": "list", "data": []}),
        every_byte(text_reply("Häl", "lo")),
        tool_calls_reply(("get_weather", {"city": "Oslo"})),
        error_reply(400, "so not"),
    ]

    async def scenario(made: AsyncClient) -> list[object]:
        seen: list[object] = [len(await made.models.list())]
        seen.append((await made.complete(REQUEST)).text)
        seen.append((await made.complete(REQUEST)).choices[0].message.tool_calls)
        with pytest.raises(APIStatusError, match="so not") as caught:
            await made.complete(REQUEST)
        return [*seen, str(caught.value)]

    async with serve(script, tls=tls) as server:
        base_url, context = server.base_url, server.client_ssl_context() if tls else None
        async with client_of(server, network=Cassette(path, "record")) as made:
            first = await scenario(made)
    written = path.read_text("utf-8")
    assert KEY not in written
    assert written.count('"method"') == 4
    modes: list[CassetteMode] = ["replay", "hybrid"]
    for mode in modes:
        cassette = Cassette(path, mode, network=NOWHERE)
        assert sum(1 for _ in cassette.unused) == 4
        async with AsyncClient(
            base_url, api_key="another", ssl_context=context, network=cassette
        ) as made:
            assert await scenario(made) == first
        assert not cassette.unused
        assert path.read_text("utf-8") == written


@pytest.mark.anyio
async def test_hybrid_records_what_is_missing_and_only_that(path: Path) -> None:
    network = MemoryNetwork(echo)
    for texts in (["one"], ["one", "two"], ["three", "one", "two"], ["two"]):
        said = await ask(Cassette(path, "hybrid", network=network), *texts)
        assert said == [f"You said: {text}" for text in texts]
    assert [each.json["messages"][0]["content"] for each in network.requests] == [
        *("one", "two", "three")
    ]
    assert await ask(Cassette(path), "three", "two", "one") == [
        *("You said: three", "You said: two", "You said: one")
    ]


@pytest.mark.anyio
async def test_hybrid_without_the_server(path: Path) -> None:
    await recorded(path, echo, "one")
    cassette = Cassette(path, "hybrid", network=NOWHERE)
    assert await ask(cassette, "one") == ["You said: one"]
    with pytest.raises(penstock.APIConnectionError, match="connection refused"):
        await ask(cassette, "two")


@pytest.mark.anyio
async def test_hybrid_over_tls_connects_only_for_what_is_missing(path: Path) -> None:
    async with serve(echo, tls=True) as server:
        for texts, connections in ((["one"], 1), (["one"], 1), (["one", "two"], 2)):
            async with client_of(server, network=Cassette(path, "hybrid")) as made:
                for text in texts:
                    assert (await made.complete(asking(text))).text == f"You said: {text}"
            assert len(server.connections) == connections


@pytest.mark.anyio
async def test_record_replaces_what_was_there(path: Path) -> None:
    await recorded(path, echo, "one", "two")
    await recorded(path, text_reply("new"), "three")
    assert [each.body for each in Cassette(path).transcript.exchanges] == [
        json.dumps({**asking("three"), "stream": True}).encode()
    ]


@pytest.mark.anyio
async def test_boundaries_of_reads_are_kept_and_pauses_are_not(path: Path) -> None:
    slow = sse_reply([part for each in tokens("a", "ü", "b") for part in (Pause(0.01), each)])
    cassette = await recorded(path, slow, "?")
    (before,) = cassette.transcript.exchanges
    (after,) = Cassette(path).transcript.exchanges
    assert [each.data for each in after.segments] == [each.data for each in before.segments]
    assert len(after.segments) == 6
    assert (after.method, after.target, after.headers, after.end) == (
        *(before.method, before.target, before.headers, before.end),
    )


def test_a_replay_needs_its_file(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no cassette; mode=\"record\" makes one: .*json"):
        Cassette(path)
    with pytest.raises(ValueError, match="mode is one of replay, record, hybrid, not 'once'"):
        Cassette(path, "once")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- which recording answers ---


@pytest.mark.anyio
async def test_the_same_request_gets_its_answers_in_order(path: Path) -> None:
    await recorded(path, [text_reply("1"), text_reply("2")], "?", "?")
    assert await ask(Cassette(path, repeat=True), "?", "?", "?", "?") == ["1", "2", "2", "2"]
    cassette = Cassette(path)
    assert await ask(cassette, "?", "?") == ["1", "2"]
    with pytest.raises(
        NotRecordedError, match=r"was recorded 2 times in .*; repeat=True"
    ) as caught:
        await ask(cassette, "?")
    assert caught.value.nearest is None
    network = MemoryNetwork(text_reply("3"))
    assert await ask(Cassette(path, "hybrid", network=network), "?", "?", "?") == ["1", "2", "3"]
    assert await ask(Cassette(path), "?", "?", "?") == ["1", "2", "3"]


@pytest.mark.anyio
async def test_hybrid_repeats_what_it_has_just_recorded(path: Path) -> None:
    network = MemoryNetwork([text_reply("1"), text_reply("2")])
    cassette = Cassette(path, "hybrid", network=network, repeat=True)
    assert await ask(cassette, "?", "?", "?") == ["1", "1", "1"]


@pytest.mark.anyio
async def test_bodies_are_compared_as_json(path: Path) -> None:
    await recorded(path, echo, "one")
    reordered = dict(reversed(asking("one").items()))
    async with client(Cassette(path)) as made:
        assert (await made.complete(reordered)).text == "You said: one"
    async with client(Cassette(path)) as made:
        with pytest.raises(NotRecordedError, match=r"n is 1, not recorded"):
            await made.complete({**reordered, "n": 1})


@pytest.mark.anyio
async def test_of_several_hosts_the_own_one_answers(path: Path) -> None:
    cassette = Cassette(path, "record", network=MemoryNetwork([text_reply("a"), text_reply("b")]))
    for host in ("a", "b"):
        async with AsyncClient(f"http://{host}.test/v1", network=cassette) as made:
            await made.complete(REQUEST)
    cassette = Cassette(path)
    for host in ("b", "a"):
        async with AsyncClient(f"http://{host}.test/v1", network=cassette) as made:
            assert (await made.complete(REQUEST)).text == host


@pytest.mark.anyio
async def test_a_match_of_ones_own(path: Path) -> None:
    def last(request: RecordedRequest) -> object:
        return request.json["messages"][-1]["content"].partition(" at ")[0]

    await recorded(path, text_reply("noon"), "time at 12:00")
    assert await ask(Cassette(path, match=last), "time at 12:01") == ["noon"]

    def broken(request: RecordedRequest) -> object:
        raise KeyError("members")

    with pytest.raises(NotRecordedError, match=r"`match` raised KeyError\('members'\)"):
        Cassette(path, match=broken)


@pytest.mark.anyio
async def test_the_error_shows_the_nearest_recording(path: Path) -> None:
    await recorded(path, echo, "Hello", "What is the capital of Norway?")
    async with client(Cassette(path), max_retries=5) as made:
        with pytest.raises(NotRecordedError) as caught:
            await made.complete(asking("What is the capital of Sweden?"))
    error = caught.value
    assert str(error) == (
        f"no recording of POST /v1/chat/completions in {path}; compared with the nearest, "
        'number 1 of 2: messages[0].content is "What is the capital of Sweden?", recorded "Hello"'
    )
    assert error.nearest == Cassette(path).transcript.exchanges[0]
    for again in (copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert (str(again), again.differences, again.request) == (
            *(str(error), error.differences, error.request),
        )
    async with client(Cassette(path)) as made:
        with pytest.raises(NotRecordedError, match=r"method is \"GET\", recorded \"POST\"; target"):
            await made.models.list()
    path.write_text('{"penstock_cassette": 1, "exchanges": []}')
    with pytest.raises(NotRecordedError, match="is empty"):
        await ask(Cassette(path), "?")


# --- secrets ---


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["record", "hybrid"])
async def test_nothing_secret_is_written(mode: Any, path: Path) -> None:
    answer = text_reply("Your key is ", KEY, ", of org-12345678").data
    answer = answer.replace(b"\r\n", b"\r\nset-cookie: s=5\r\n", 1)
    network = MemoryNetwork(reply(answer))
    cassette = Cassette(path, mode, network=network, redact=["org-12345678"])
    text = f"My key is {KEY}, of org-12345678"
    async with AsyncClient(
        f"{URL}?api-key=in-the-query", api_key=KEY, network=cassette, headers={"X-Token": "t" * 9}
    ) as made:
        await made.complete(asking(text))
    written = path.read_text("utf-8")
    for secret in (KEY, "org-12345678", "in-the-query", "ttttttttt", "s=5"):
        assert secret not in written
    # It is found all the same, with whatever key.
    replay = Cassette(path, redact=["org-12345678"])
    async with AsyncClient(f"{URL}?api-key=in-the-query", api_key=KEY, network=replay) as made:
        assert "Your key is xxxx" in (await made.complete(asking(text))).text
    async with AsyncClient(f"{URL}?api-key=other-query", api_key="k" * 20, network=replay) as made:
        with pytest.raises(NotRecordedError) as caught:
            await made.complete(asking("k" * 20))
    assert "k" * 20 not in str(caught.value) + repr(caught.value.request)


# --- answers that are not whole ---


@pytest.mark.anyio
async def test_a_cut_answer_is_replayed_as_it_was(path: Path) -> None:
    cut = cut_after_events(text_reply("Hel", "lo"), 2)
    for network in recording_then_replay(path, cut):
        with pytest.raises(StreamInterruptedError) as caught:
            await ask(network, "?")
        assert caught.value.partial.choices[0].message.content == "Hel"


@pytest.mark.anyio
async def test_a_retry_is_replayed_with_what_made_it_necessary(path: Path) -> None:
    script = [error_reply(429, headers={"retry-after": "0"}), text_reply("Hi")]
    first = Cassette(path, "record", network=MemoryNetwork(script))
    assert await ask(first, "?", max_retries=1) == ["Hi"]
    replay = Cassette(path)
    assert await ask(replay, "?", max_retries=1) == ["Hi"]
    assert not replay.unused


@pytest.mark.anyio
async def test_an_answer_that_was_left_is_replayed_as_far_as_it_was_read(path: Path) -> None:
    answer = sse_reply(tokens("a", "b", "c"), one_segment_each=True)

    async def read(network: Any, count: int) -> str:
        async with client(network) as made, made.chat.completions.stream(**asking("?")) as stream:
            text = ""
            async for piece in stream.text:
                text += piece
                if len(text) == count:
                    break
            return text

    assert await read(Cassette(path, "record", network=MemoryNetwork(answer)), 2) == "ab"
    assert await read(Cassette(path), 2) == "ab"
    with pytest.raises(NotRecordedError, match="had read no further"):
        await read(Cassette(path), 3)


@pytest.mark.anyio
async def test_what_was_cancelled_or_timed_out_is_not_recorded(path: Path) -> None:
    stalls = cut_after_events(text_reply("Hel", "lo"), 2, Stall())
    patient = False
    network = MemoryNetwork(lambda request: echo(request) if patient else stalls)
    cassette = Cassette(path, "hybrid", network=network)
    with anyio.move_on_after(0.05) as scope:
        await ask(cassette, "?")
    assert scope.cancelled_caught
    with pytest.raises(penstock.TotalTimeout):
        await ask(cassette, "?", timeouts=Timeouts(total=0.05))
    assert not path.exists()
    patient = True
    assert await ask(cassette, "?") == ["You said: ?"]
    assert await ask(Cassette(path), "?") == ["You said: ?"]


@pytest.mark.anyio
async def test_an_answer_is_recorded_though_its_body_does_not_end(path: Path) -> None:
    """The client waits a moment for the end after [DONE], then leaves."""
    endless = reply(text_reply("Hi").data.removesuffix(b"0\r\n\r\n"), Stall())
    await recorded(path, endless, "?")
    assert await ask(Cassette(path), "?") == ["Hi"]


# --- the file ---


@pytest.mark.anyio
async def test_the_file_is_written_as_exchanges_end_and_as_a_whole(path: Path) -> None:
    cassette = Cassette(path, "record", network=MemoryNetwork(echo))
    async with client(cassette) as made:
        await made.complete(asking("one"))
        assert len(Cassette(path).transcript.exchanges) == 1
        path.chmod(0o640)
        await made.complete(asking("two"))
        assert len(Cassette(path).transcript.exchanges) == 2
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.anyio
async def test_a_file_that_cannot_be_written_is_said_and_nothing_is_sent_again(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    network = MemoryNetwork(echo)
    cassette = Cassette(tmp_path / "file" / "answers.json", "record", network=network)
    with pytest.raises(NotRecordedError, match="cannot write"):
        await ask(cassette, "one", max_retries=3)
    assert len(network.requests) == 1
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the system
        cassette.save()


@pytest.mark.anyio
async def test_many_at_once_are_in_the_order_of_their_requests(path: Path) -> None:
    def later(request: RecordedRequest) -> Reply:
        number = int(request.json["messages"][-1]["content"])
        return echo(request).after((20 - number) / 200)

    async def run(network: Any) -> list[str]:
        async with client(network) as made:
            requests = [asking(str(number)) for number in range(20)]
            async with penstock.fan_out(made.complete, requests, limit=20) as results:
                return sorted([result.unwrap().text async for result in results])

    network = MemoryNetwork(later)
    first = await run(Cassette(path, "record", network=network))
    texts = [
        json.loads(each.body or b"")["messages"][0]["content"]
        for each in Cassette(path).transcript.exchanges
    ]
    assert texts == [each.json["messages"][0]["content"] for each in network.requests]
    assert await run(Cassette(path)) == first


def test_several_clients_loops_and_threads_share_one(path: Path) -> None:
    texts = [f"{thread}-{number}" for thread in range(4) for number in range(5)]

    def run(cassette: Cassette, base_url: str) -> list[str]:
        said: list[str] = []

        def blocking(thread: int) -> None:
            with Client(base_url, network=cassette) as made:
                said.extend(made.complete(asking(f"{thread}-{n}")).text for n in range(5))

        def with_a_loop(thread: int) -> None:
            async def main() -> None:
                async with AsyncClient(base_url, network=cassette) as made:
                    for n in range(5):
                        said.append((await made.complete(asking(f"{thread}-{n}"))).text)

            anyio.run(main)

        kinds = (blocking, with_a_loop, blocking, with_a_loop)
        threads = [threading.Thread(target=kind, args=(n,)) for n, kind in enumerate(kinds)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return sorted(said)

    with serve_in_thread(echo) as server:
        first = run(Cassette(path, "record"), server.base_url)
    assert first == sorted(f"You said: {text}" for text in texts)
    replay = Cassette(path)
    assert run(replay, URL) == first
    assert not replay.unused


# --- around it ---


@pytest.mark.anyio
async def test_the_blocking_client(path: Path) -> None:
    with serve_in_thread(echo) as server, Client(server.base_url) as plain:
        direct = plain.complete(asking("one")).text
        with Client(server.base_url, network=Cassette(path, "record")) as made:
            assert made.complete(asking("one")).text == direct
    with Client(URL, network=Cassette(path)) as made:
        assert made.complete(asking("one")).text == direct
        with pytest.raises(NotRecordedError):
            made.complete(asking("two"))


@pytest.mark.anyio
async def test_under_httpx_with_a_compressed_answer(path: Path) -> None:
    answer = status_reply(200, gzip.compress(b'{"a": 1}'), {"content-encoding": "gzip"})
    for network in recording_then_replay(path, answer):
        transport = AsyncTransport(network=network)
        async with httpx2.AsyncClient(transport=transport) as made:
            response = await made.post("http://api.test/x", json={"a": 1})
            assert response.json() == {"a": 1}


@pytest.mark.anyio
async def test_forms_match_whatever_their_boundary(path: Path) -> None:
    for network in recording_then_replay(path, json_reply({})):
        async with httpx2.AsyncClient(transport=AsyncTransport(network=network)) as made:
            files = {"file": ("a.txt", b"\xff\x00 some bytes")}
            response = await made.post("http://api.test/x", files=files, data={"purpose": "batch"})
            assert response.json() == {}


@pytest.mark.anyio
async def test_a_large_upload(path: Path) -> None:
    text = "x" * 300_000
    await recorded(path, echo, text)
    assert await ask(Cassette(path), text) == [f"You said: {text}"]


@pytest.mark.anyio
async def test_behind_a_proxy(path: Path) -> None:
    """A proxy for http:// is sent whole URLs; without it they match all the same."""
    cassette = Cassette(path, "record", network=MemoryNetwork(echo))
    assert await ask(cassette, "one", proxy="http://proxy.test:3128") == ["You said: one"]
    assert await ask(Cassette(path), "one") == ["You said: one"]
    with pytest.raises(NotRecordedError, match="no SOCKS"):
        await ask(Cassette(path), "one", proxy="socks5://proxy.test:1080")


@pytest.mark.anyio
async def test_hybrid_tunnels_only_for_what_is_missing(path: Path) -> None:
    def through(request: RecordedRequest) -> Reply:
        return reply(b"HTTP/1.1 200 OK\r\n\r\n") if request.method == "CONNECT" else echo(request)

    network = MemoryNetwork(through)
    for texts in (["one"], ["one"], ["one", "two"]):
        cassette = Cassette(path, "hybrid", network=network)
        async with AsyncClient(
            "https://api.test/v1", proxy="http://proxy.test:3128", network=cassette
        ) as made:
            for text in texts:
                assert (await made.complete(asking(text))).text == f"You said: {text}"
    assert [each.method for each in network.requests] == ["CONNECT", "POST"] * 2
    assert [each.tls for each in network.connections] == [["api.test"]] * 2
    assert [each.method for each in Cassette(path).transcript.exchanges] == ["POST", "POST"]

    for answer, words in (
        (status_reply(407), "the proxy answered HTTP/1.1 407"),
        (reply(End()), "the proxy closed"),
    ):
        cassette = Cassette(path, "hybrid", network=MemoryNetwork(answer))
        async with AsyncClient(
            "https://api.test/v1", proxy="http://p.test", network=cassette, max_retries=0
        ) as made:
            with pytest.raises(penstock.APIConnectionError, match=words):
                await made.complete(asking("three"))


@pytest.mark.anyio
async def test_a_leak_is_found(path: Path) -> None:
    await recorded(path, echo, "one")
    made = client(Cassette(path))
    stream = made.chat.completions.stream(**asking("one"))
    with pytest.raises(LeakError):
        async with no_leaks():
            await anext(aiter(stream))
    await stream.aclose()
    await made.aclose()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("mode", ["record", "hybrid", "replay"])
def test_cancelled_anywhere_it_leaves_a_readable_file(
    backend: BackendName, mode: Any, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.json"
    name, options = virtual(backend)
    anyio.run(recorded, kept, echo, "one", backend=name, backend_options=options)

    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Any]:
        path = tmp_path / "answers.json"
        path.unlink(missing_ok=True)
        if mode == "replay":
            path.write_bytes(kept.read_bytes())
        cassette = Cassette(path, mode, network=MemoryNetwork(echo))

        async def run() -> None:
            assert await ask(cassette, "one") == ["You said: one"]

        async with no_leaks():
            yield run
        if path.exists():
            assert len(Cassette(path).transcript.exchanges) == 1

    assert cancel_sweep(backend, scenario)["scope"] > 3
