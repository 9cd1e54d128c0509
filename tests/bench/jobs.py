"""CPU for each row of a job, beside other ways to process a file of prompts: one run, one server.

    python tests/bench/jobs.py --rows 1000 --concurrency 64 [NAME ...]

Each way runs in a process of its own, three times in turn with the others; the least counts. Ways
that are not installed are left out. Peers: the SDK with a semaphore, litellm, async-batch-llm and
curator (bespokelabs-curator).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "word " * 20},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": 29},
    }
).encode()
RESPONSE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
) + ANSWER


def bodies(rows: int) -> list[dict[str, Any]]:
    return [
        {
            "model": "m",
            "max_tokens": 20,
            "messages": [{"role": "user", "content": f"What is {number} plus {number}?"}],
        }
        for number in range(rows)
    ]


# --- the ways; each returns what its work has cost, in seconds of CPU ---


def batch(url: str, rows: int, concurrency: int) -> float:
    """`penstock batch` without the start of Python: both files are read and written."""
    from penstock import AsyncClient
    from penstock.batch import run_files

    Path("in.jsonl").write_text(
        "".join(
            json.dumps(
                {
                    "custom_id": f"row {number}",
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": body,
                }
            )
            + "\n"
            for number, body in enumerate(bodies(rows))
        )
    )

    async def work() -> None:
        async with AsyncClient(url) as client:
            report = await run_files(client, "in.jsonl", "out.jsonl", limit=concurrency)
        assert report.answered == rows

    return timed(lambda: asyncio.run(work()))


def fan_out(url: str, rows: int, concurrency: int) -> float:
    """`fan_out` over `client.request`, the answers decoded."""
    import penstock

    async def work() -> None:
        async with penstock.AsyncClient(url) as client:

            async def ask(body: dict[str, Any]) -> Any:
                return await client.request("POST", "/chat/completions", json=body)

            async with penstock.fan_out(ask, bodies(rows), limit=concurrency) as results:
                async for result in results:
                    result.unwrap().json()

    return timed(lambda: asyncio.run(work()))


def sdk(url: str, rows: int, concurrency: int) -> float:
    """The OpenAI SDK under a semaphore, results as they come."""
    openai: Any = import_module("openai")

    async def work() -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="x") as client:
            await gathered(lambda body: client.chat.completions.create(**body), rows, concurrency)

    return timed(lambda: asyncio.run(work()))


def litellm(url: str, rows: int, concurrency: int) -> float:
    """`litellm.acompletion` under a semaphore."""
    module: Any = import_module("litellm")

    def ask(body: dict[str, Any]) -> Any:
        return module.acompletion(**{**body, "model": "openai/m"}, api_base=url, api_key="x")

    return timed(lambda: asyncio.run(gathered(ask, rows, concurrency)))


def async_batch_llm(url: str, rows: int, concurrency: int) -> float:
    """`async_batch_llm.process_prompts`."""
    module: Any = import_module("async_batch_llm")
    os.environ.update(OPENAI_BASE_URL=url, OPENAI_API_KEY="x")

    async def work() -> None:
        prompts = [body["messages"][0]["content"] for body in bodies(rows)]
        done = await module.process_prompts(
            module.llm("openai:m"), prompts, concurrency=concurrency
        )
        assert len(done.results) == rows

    return timed(lambda: asyncio.run(work()))


def curator(url: str, rows: int, concurrency: int) -> float:
    """`bespokelabs.curator.LLM`."""
    os.environ.update(OPENAI_API_KEY="x", CURATOR_DISABLE_CACHE="1", TELEMETRY_ENABLED="0")
    # It counts tokens with tables that it downloads; here by words, which costs less.
    words: Any = SimpleNamespace(encode=lambda text, **_: text.split())
    module: Any = import_module("tiktoken")
    module.get_encoding = module.encoding_for_model = lambda *_: words
    module = import_module("bespokelabs.curator")
    model = module.LLM(
        model_name="m",
        backend="openai",
        backend_params={
            "base_url": url,
            "max_concurrent_requests": concurrency,
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10_000_000_000,
        },
    )
    return timed(lambda: model([body["messages"][0]["content"] for body in bodies(rows)]))


WAYS: dict[str, tuple[Callable[[str, int, int], float], str]] = {
    "fan_out": (fan_out, "penstock"),
    "batch": (batch, "penstock"),
    "sdk": (sdk, "openai"),
    "litellm": (litellm, "litellm"),
    "async-batch-llm": (async_batch_llm, "async_batch_llm"),
    "curator": (curator, "bespokelabs"),
}


async def gathered(ask: Callable[[dict[str, Any]], Any], rows: int, concurrency: int) -> None:
    places = asyncio.Semaphore(concurrency)

    async def one(body: dict[str, Any]) -> None:
        async with places:
            await ask(body)

    await asyncio.gather(*map(one, bodies(rows)))


def timed(work: Callable[[], object]) -> float:
    """CPU of this process and its children, threads included."""

    def spent() -> float:
        return sum(
            usage.ru_utime + usage.ru_stime
            for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )

    before = spent()
    work()
    return spent() - before


# --- the server and the table ---


class Answers(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n")[0]) if at >= 0 else 0
            if len(self._data) < end + 4 + length:
                return
            self._data = self._data[end + 4 + length :]
            self._transport.write(RESPONSE)


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answers, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def served() -> Iterator[str]:
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


def measured(name: str, url: str, rows: int, concurrency: int) -> float | None:
    """Milliseconds of CPU a row; None where the way failed."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__).resolve()), "--one", name, "--url", url]
        command += ["--rows", str(rows), "--concurrency", str(concurrency)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    try:
        return float(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        print(done.stderr[-2000:], file=sys.stderr)
        return None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(WAYS))
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--one")
    parser.add_argument("--url", default="")
    arguments = parser.parse_args()
    rows, concurrency = arguments.rows, arguments.concurrency
    if arguments.serve:
        asyncio.run(serve())
    if arguments.one:
        way, _ = WAYS[arguments.one]
        way(arguments.url, min(rows, 50), concurrency)  # imports and first connections
        Path("out.jsonl").unlink(missing_ok=True)
        print(1000 * way(arguments.url, rows, concurrency) / rows)
        return
    names = [name for name in arguments.names if find_spec(WAYS[name][1]) is not None]
    best: dict[str, float] = {}
    with served() as url:
        for _ in range(3):
            for name in names:
                found = measured(name, url, rows, concurrency)
                if found is not None:
                    best[name] = min(found, best.get(name, found))
    print(f"{time.strftime('%Y-%m-%d')}: {rows} rows, {concurrency} at once")
    for name, milliseconds in sorted(best.items(), key=lambda item: item[1]):
        ratio = f"  {milliseconds / best['fan_out']:.2f} x fan_out" if "fan_out" in best else ""
        print(f"{name:16} {milliseconds:6.2f} ms a row{ratio}")


if __name__ == "__main__":
    main()
