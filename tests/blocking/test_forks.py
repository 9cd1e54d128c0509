"""Fork at every stage of a blocking client: what was not used yet may be used in the child."""

from __future__ import annotations

import os

import pytest

from penstock.testing.replies import sse_event, sse_reply, tokens
from penstock.testing.script import RecordedRequest, Repeat, Reply
from penstock.testing.server import serve_in_thread
from tests.support.blocking import HELLO, run_program

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

ENDLESS = sse_reply([Repeat(sse_event(tokens("x")[0]), every=0.002)], done=False)


def script(request: RecordedRequest) -> Reply:
    return ENDLESS if "endless" in request.json else HELLO


PROGRAM = """
import signal, time
signal.alarm(15)
limiter = penstock.Limiter(2)
client = Client(url, api_key=lambda: "k", limiter=limiter)
BEFORE
child = os.fork()
if child == 0:
    code = 1
    try:
        CHILD
        code = 0
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
PARENT
client.close()
deadline = time.monotonic() + 5
while threading.active_count() > 1:
    assert time.monotonic() < deadline, threading.enumerate()
    time.sleep(0.001)
"""
WORKS = """
said = client.complete(R).choices[0].message.content
assert said == "Hello!", said
with client.chat.completions.stream(**R) as stream:
    assert "".join(stream.text) == "Hello!"
with blocking.fan_out(client.complete, [R] * 5) as results:
    assert len([each.unwrap() for each in results]) == 5
with blocking.race(client, [R, R]) as stream:
    assert stream.collect().choices[0].message.content == "Hello!"
"""
ENDS = """
client.close()
for _ in range(2000):
    if threading.active_count() > 1:
        time.sleep(0.001)
assert threading.active_count() == 1, threading.enumerate()
"""
REFUSED = """
try:
    client.complete(R)
except RuntimeError as error:
    assert "used before os.fork()" in str(error), error
else:
    raise AssertionError
client.close()
"""


def indented(code: str) -> str:
    return code.strip().replace("\n", "\n        ")


CLOSED = """
try:
    client.complete(R)
except penstock.StreamClosedError:
    pass
else:
    raise AssertionError
"""
MAKE_BLOCKS = """
stream = client.chat.completions.stream(**R)
results = blocking.fan_out(client.complete, [R] * 3)
work = blocking.fan_out(lambda item: client.complete(R), iter(range(3)))
contest = blocking.race(client, [R, R])
"""
USE_BLOCKS = """
assert stream.collect().choices[0].message.content == "Hello!"
with results, work, contest as won:
    assert len([each.unwrap() for each in results]) == 3
    assert len([each.unwrap() for each in work]) == 3
    assert won.collect().choices[0].message.content == "Hello!"
"""
# What the parent has done before, what the child does, and what the parent does afterwards.
STAGES = {
    "made": ("", WORKS + ENDS, WORKS),
    "made, and the child closes it": ("", "client.close()" + CLOSED, WORKS),
    "blocks were made": (MAKE_BLOCKS, USE_BLOCKS + ENDS, USE_BLOCKS),
    "another client is at work": (
        "other = Client(url, api_key='k')\n"
        + (start := "busy = other.chat.completions.stream(**R, endless=True)\nnext(busy)"),
        WORKS + ENDS,
        WORKS + "[next(busy) for _ in range(20)]\nother.close()",
    ),
    "used": ("client.complete(R)", REFUSED, WORKS),
    "streaming": (
        start.replace("other", "client"),
        REFUSED + "busy.close()",
        "[next(busy) for _ in range(20)]\nbusy.close()" + WORKS,
    ),
    "in a fan-out": (
        "busy = blocking.fan_out_chunks(client, [{**R, 'endless': True}]).__enter__()",
        REFUSED + "busy.__exit__(None, None, None)",
        "[next(busy) for _ in range(20)]\nbusy.__exit__(None, None, None)" + WORKS,
    ),
    "closed unused": ("client.close()", CLOSED, CLOSED),
}


@pytest.mark.parametrize("stage", STAGES)
def test_fork_when_it_is(stage: str) -> None:
    before, child, parent = STAGES[stage]
    program = PROGRAM.replace("BEFORE", before).replace("PARENT", parent)
    with serve_in_thread(script) as server:
        code, _, errors = run_program(program.replace("CHILD", indented(child)), server.base_url)
    assert code == 0, errors
    assert "Traceback" not in errors, errors


MANY = """
import signal
signal.alarm(15)
client = Client(url, api_key="k")
with Client(url, api_key="k") as own:
    own.complete(R)  # and import everything: a fork in an import is beyond anybody's help
# Threads of the parent hold the locks of whatever they are at when it forks.
stop = threading.Event()
def toil():
    while not stop.is_set():
        with Client(url, api_key="k") as own:
            own.complete(R)
threads = [threading.Thread(target=toil) for _ in range(3)]
for thread in threads:
    thread.start()
failed = 0
for _ in range(20):
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        code = 1
        try:
            workers = [threading.Thread(target=client.complete, args=(R,)) for _ in range(4)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            code = client.complete(R).choices[0].message.content != "Hello!"
        finally:
            os._exit(code)
    failed += os.waitpid(child, 0)[1] != 0
stop.set()
for thread in threads:
    thread.join()
client.close()
sys.exit(failed)
"""


def test_fork_while_other_threads_are_at_work() -> None:
    with serve_in_thread(script) as server:
        code, _, errors = run_program(MANY, server.base_url, timeout=30)
    assert code == 0, errors
