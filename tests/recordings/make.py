"""Make the recordings in this folder: whole HTTP responses of real servers, byte for byte.

Two are by hand, after the documented formats, as their servers are not at hand: `responses` is a
stream of OpenAI's Responses API, `messages` one of Anthropic's Messages API.

    python -m tests.recordings.make [--litellm PATH] [NAME ...]

llama.cpp is the embedded server of the dependency group `demo`. LiteLLM's proxy stands in front
of it; it is in no dependency group, as it brings a hundred packages. For its recordings install
`litellm[proxy]` into an environment of its own, and name the command it has there. Without
names all are made anew; their texts, ids and times differ each time.

What is sent is in `EXCHANGES`. The two names that end in `killed` and `gone` show what the proxy
makes of a server that dies in the middle of an answer, and of one that is not there.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import h11

from penstock._local.server import LocalServer

FOLDER = Path(__file__).parent
MODEL = "smollm2"
KEY = f"sk-{secrets.token_hex(16)}"  # the proxy refuses to start without one
START_SECONDS = 120.0

ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Say hello."}],
    "max_tokens": 3,
}
STREAM = {**ASK, "stream": True}

EXCHANGES: dict[str, dict[str, Any]] = {
    "llamacpp_stream": {**STREAM, "stream_options": {"include_usage": True}},
    "llamacpp_whole": ASK,
    "llamacpp_logprobs": {**STREAM, "logprobs": True, "top_logprobs": 2},
    "llamacpp_too_long": {**ASK, "messages": [{"role": "user", "content": "hello " * 3000}]},
    "llamacpp_completion": {"prompt": "Once upon", "n_predict": 3, "stream": True},
    "llamacpp_text": {
        "model": MODEL,
        "prompt": ["Once upon", "The sky is"],
        "max_tokens": 3,
        "logprobs": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    "litellm_stream": STREAM,
    "litellm_usage": {**STREAM, "stream_options": {"include_usage": True}},
    "litellm_whole": ASK,
    "litellm_unknown_model": {**ASK, "model": "no-such-model"},
    "litellm_killed": {**STREAM, "max_tokens": 400},
    "litellm_gone": STREAM,
}

# Below the root, where it is not the one for chats.
PATHS = {"llamacpp_completion": "/completion", "llamacpp_text": "/v1/completions"}


def exchange(url: SplitResult, body: dict[str, Any], halfway: Callable[[], object] | None) -> bytes:
    """Send one request and return the bytes of its response.

    `halfway` is called when the first event has come.
    """
    data = json.dumps(body).encode()
    head = [
        f"POST {url.path} HTTP/1.1",
        f"host: {url.netloc}",
        "content-type: application/json",
        f"authorization: Bearer {KEY}",
        f"content-length: {len(data)}",
    ]
    answer = b""
    with socket.create_connection((url.hostname, url.port)) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + data)
        while piece := connection.recv(65536):
            answer += piece
            if _whole(answer):
                break
            if halfway is not None and b"data: " in answer:
                halfway()
                halfway = None
    return answer


def _whole(answer: bytes) -> bool:
    """Whether the message has ended; the connection is kept alive."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
    parser.receive_data(answer)
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            return False
        if isinstance(event, h11.EndOfMessage):
            return True


@contextmanager
def litellm_proxy(command: str, upstream: str) -> Iterator[str]:
    """LiteLLM's proxy in front of `upstream`; its base URL."""
    parameters = {"model": f"openai/{MODEL}", "api_base": upstream, "api_key": "none"}
    config = {
        "model_list": [{"model_name": MODEL, "litellm_params": parameters}],
        "router_settings": {"num_retries": 0},
        "litellm_settings": {"telemetry": False},
    }
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_text(json.dumps(config))  # JSON is YAML
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [command, "--config", path, "--host", "127.0.0.1", "--port", str(port)],
                cwd=folder,
                env={**os.environ, "LITELLM_MASTER_KEY": KEY},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        with process:
            try:
                if not _answers(f"http://127.0.0.1:{port}/health/liveliness", process):
                    raise SystemExit(f"the proxy did not start:\n{log.read_text()}")
                yield f"http://127.0.0.1:{port}/v1"
            finally:
                process.terminate()


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the process answers; whether it does before it ends or the time is over."""
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--litellm", help="the command `litellm`; without it, llama.cpp's only")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(EXCHANGES)}")
    arguments = parser.parse_args()
    names = arguments.names or list(EXCHANGES)
    by_proxy = [name for name in names if name.startswith("litellm") and arguments.litellm]

    def save(name: str, base_url: str, halfway: Callable[[], object] | None = None) -> None:
        url = urlsplit(f"{base_url}/chat/completions")
        url = url._replace(path=PATHS.get(name, url.path))
        answer = exchange(url, EXCHANGES[name], halfway)
        (FOLDER / f"{name}.http").write_bytes(answer)
        print(f"{name}: {len(answer)} bytes, {answer.split(maxsplit=2)[1].decode()}")

    with ExitStack() as server:
        upstream = server.enter_context(LocalServer(parallel=2)).base_url
        for name in names:
            if name.startswith("llamacpp"):
                save(name, upstream)
        if by_proxy:
            with litellm_proxy(arguments.litellm, upstream) as proxy:
                # In this order: the server is killed by the one before the last.
                for name in EXCHANGES:
                    if name in by_proxy:
                        save(name, proxy, server.close if name == "litellm_killed" else None)


if __name__ == "__main__":
    main()
