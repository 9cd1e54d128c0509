"""The first call in a process without free descriptors: an error, and nothing is broken."""

from __future__ import annotations

import json
import sys

import pytest

from penstock.testing.answers import text_reply
from penstock.testing.server import serve_in_thread
from tests.support.blocking import run_program
from tests.support.sweeps import EVERYTHING

PROGRAM = """
import asyncio, json, resource, traceback
kind = sys.argv[2]
if kind.endswith("by name"):
    url = url.replace("127.0.0.1", "localhost")
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

def descriptors():
    return len(os.listdir("/proc/self/fd"))

def made(cls):
    proxy = url.removesuffix("/v1") if kind.endswith("by a proxy") else ""
    return cls(url, api_key="k", proxy=proxy, max_retries=0)

def outcome(error):
    if error is None:
        return "ok"
    if isinstance(error, penstock.PenstockError):
        return type(error).__name__
    return traceback.format_exc()

def first_and_second(left):
    def limit(count):
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    before, told = descriptors(), []
    if kind.startswith("blocking"):
        with made(Client) as client:
            for count in (left, hard):
                limit(count)
                try:
                    client.complete(R)
                    told.append("ok")
                except Exception as error:
                    limit(hard)
                    told.append(outcome(error))
    else:
        async def main():
            async with made(penstock.AsyncClient) as client:
                for count in (left, hard):
                    limit(count)
                    try:
                        await (client.warm() if kind.endswith("warm") else client.complete(R))
                        told.append("ok")
                    except Exception as error:
                        limit(hard)
                        told.append(outcome(error))
        if kind.startswith("trio"):
            import trio
            trio.run(main)
        else:
            asyncio.run(main())
    gc.collect()
    return [*told, descriptors() - before]

# Each in a process that has imported nothing but the package's face.
for left in json.loads(sys.argv[3]):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, json.dumps([left, *first_and_second(left)]).encode())
        os._exit(0)
    os.close(writing)
    print(os.read(reading, 65536).decode(), flush=True)
    os.close(reading)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts in /proc")
@pytest.mark.parametrize(
    "kind",
    ["blocking", "asyncio", "trio", "blocking, by a proxy", "asyncio, by name", "asyncio, warm"],
)
def test_the_first_call_without_descriptors(kind: str) -> None:
    # From none to enough; in between a part of what is needed can be opened.
    limits = [*range(3, 16)] if EVERYTHING else [3, 7, 15]
    with serve_in_thread(text_reply("Hi")) as server:
        code, output, errors = run_program(
            PROGRAM, server.base_url, kind, json.dumps(limits), timeout=100
        )
    assert code == 0, errors
    assert "Warning" not in errors, errors
    found = [json.loads(line) for line in output.splitlines()]
    assert [each[0] for each in found] == limits
    for _, first, second, left in found:
        assert first in ("ok", "APIConnectionError"), first
        assert (second, left) == ("ok", 0)
    assert found[0][1] == "APIConnectionError"
    assert found[-1][1] == "ok"
