"""A process that signals interrupt at random instants, and that forks: beside the soak itself.

`python -m tests.soak.interrupted SEED [TIMES]`. Its main thread uses the blocking client, or
runs an event loop; other threads are at work meanwhile. It ends when its input is closed, or
after so many operations, and then prints what it has done and found, as JSON.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import itertools
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

import penstock
from penstock import AsyncClient, Client, Limiter, Timeouts, blocking

from .answers import text_of
from .serving import ROOT, Serving, serving

__all__ = ["Interrupted", "interrupting"]

PATIENCE = Timeouts(connect=1.0, read=0.3, total=1.0, trailing=None)
HUNG = 120
"""Seconds for one operation; then the process ends with a traceback of each thread."""
SLOTS_BACK = 10.0
"""Seconds within which the slots of an interrupted operation are back, on a busy machine."""
FORK_EVERY = 7


class Interrupted(msgspec.Struct):
    """What it has come to."""

    signals: int = 0
    forks: int = 0
    violations: list[str] = msgspec.field(default_factory=list)


class Program:
    """What the process does."""

    def __init__(self, seed: int, server: Serving) -> None:
        self.found = Interrupted()
        self._server = server
        self._url = f"http://127.0.0.1:{server.ports['plain']}/v1"
        self._rng = random.Random(seed)
        self._numbers = itertools.count()
        self._limiter = Limiter(4)
        self._client = self._new_client()
        self._stop = threading.Event()
        self._works: list[Callable[[], None]] = [
            self._stream,
            self._fan_out,
            self._fan_out_of_function,
            self._chunks,
            self._race,
            self._whole_client,
            self._entered,
            self._in_a_loop,
        ]

    def run(self, times: int) -> None:
        """Go on until the input is closed, or for so many times."""
        threads = [threading.Thread(target=self._toil, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(times) if times else itertools.count():
            if not times and select.select([sys.stdin], [], [], 0)[0]:
                break
            faulthandler.dump_traceback_later(HUNG, exit=True)
            if number % FORK_EVERY == 0:
                self._fork()
            elif number % 5 == 1:
                self._interrupt_a_run(["asyncio", "trio"][number % 2])
            else:
                self._interrupt(self._works[number % len(self._works)])
            gc.collect()
            self._slots_are_back(number)
            if number % 50 == 0:
                self.found.violations += self._server.report()["violations"]
        self._stop.set()
        for thread in threads:
            thread.join()
        self._client.close()
        self._nothing_is_open()
        faulthandler.cancel_dump_traceback_later()

    def _new_client(self, limiter: Limiter | None = None) -> Client:
        limiter = limiter or self._limiter
        return Client(self._url, proxy="", timeouts=PATIENCE, limiter=limiter, max_retries=1)

    def _request(self) -> dict[str, Any]:
        # In a forked process the numbers are those of its parent again.
        name = f"{os.getpid()}-{next(self._numbers)}"
        return {"model": name, "messages": [{"role": "user", "content": "Hello?"}]}

    def _ask(self, client: Client, request: dict[str, Any]) -> None:
        answer = client.complete(request)
        if answer.text != text_of(request["model"]):
            self.found.violations.append(f"{request['model']} was answered with {answer.text!r}")

    def _toil(self) -> None:
        """Use clients of its own, in another thread."""
        limiter = Limiter(2)
        while not self._stop.is_set():
            with self._new_client(limiter) as client:
                for _ in range(5):
                    with suppress(penstock.PenstockError):
                        self._ask(client, self._request())
            self._stop.wait(0.05)

    # --- interruptions ---

    def _interrupt(self, work: Callable[[], None]) -> None:
        """Raise KeyboardInterrupt in this thread, at some instant of the work."""
        after = self._rng.choice([1e-5, 1e-3, 5e-3, 2e-2, 8e-2]) * self._rng.uniform(0.5, 2)
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, after)
                with suppress(penstock.PenstockError):
                    work()
                end = time.monotonic() + 1
                while time.monotonic() < end:  # it comes, unless a finalizer has swallowed it
                    time.sleep(0.05)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            self.found.signals += 1
        except Exception as error:  # noqa: BLE001 - told at the end
            self.found.violations.append(f"{work.__name__} raised {error!r}")

    def _interrupt_a_run(self, backend: str) -> None:
        """The same for an event loop, which has a way of its own to take Ctrl-C."""
        limiter = Limiter(4)

        async def main() -> None:
            async with AsyncClient(
                self._url, proxy="", timeouts=PATIENCE, limiter=limiter
            ) as client:
                requests = [self._request() for _ in range(6)]
                async with penstock.fan_out(client.complete, requests, limit=4) as results:
                    async for _ in results:
                        pass

        after = self._rng.uniform(0.005, 0.3)
        timer = threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            if backend == "trio":
                import trio

                trio.run(main)
            else:
                asyncio.run(main())
            timer.join()
            time.sleep(0.05)
        except KeyboardInterrupt:
            self.found.signals += 1
        except Exception as error:  # noqa: BLE001 - told at the end
            self.found.violations.append(f"a run of {backend} raised {error!r}")
        timer.join()
        slots = limiter.statistics()
        if slots.in_flight:
            self.found.violations.append(f"after Ctrl-C on {backend}: {slots}")

    def _slots_are_back(self, number: int) -> None:
        end = time.monotonic() + SLOTS_BACK
        while self._limiter.statistics().in_flight:
            if time.monotonic() > end:
                slots = self._limiter.statistics()
                self.found.violations.append(f"operation {number} has kept slots: {slots}")
                self._limiter = Limiter(4)
                self._client = self._new_client()
                return
            time.sleep(0.002)

    def _nothing_is_open(self) -> None:
        end = time.monotonic() + SLOTS_BACK
        while report := self._server.report():
            self.found.violations += report["violations"]
            if not report["open"]:
                return
            if time.monotonic() > end:
                self.found.violations.append(f"{report['open']} connections are left open")
                return
            time.sleep(0.05)

    # --- a fork ---

    def _fork(self) -> None:
        """Fork with a stream open, and other threads at work; use new clients in the child."""
        stream = None
        with suppress(penstock.PenstockError):
            stream = self._client.chat.completions.stream(**self._request()).__enter__()
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(60)
            code = 1
            try:
                code = self._as_child()
                del stream
                gc.collect()
            finally:
                os._exit(code)
        status = os.waitpid(child, 0)[1]
        self.found.forks += 1
        if status:
            self.found.violations.append(f"a forked process has ended with {status}")
        if stream is not None:
            with suppress(penstock.PenstockError), stream:
                for _ in stream:
                    pass

    def _as_child(self) -> int:
        self.found.violations.clear()  # the parent's, which tells of them itself
        with suppress(penstock.PenstockError):
            try:
                self._client.complete(self._request())
            except RuntimeError:
                pass
            else:
                return 2
        with self._new_client(Limiter(2)) as own:
            for _ in range(3):
                with suppress(penstock.PenstockError):
                    self._ask(own, self._request())
        return 3 if self.found.violations else 0

    # --- what is interrupted ---

    def _stream(self) -> None:
        with self._client.chat.completions.stream(**self._request()) as opened:
            for _ in opened:
                pass

    def _fan_out(self) -> None:
        requests = [self._request() for _ in range(5)]
        with blocking.fan_out(self._client.complete, requests, limit=self._limiter) as results:
            for _ in results:
                pass

    def _fan_out_of_function(self) -> None:
        def ask(request: dict[str, Any]) -> None:
            self._ask(self._client, request)

        requests = (self._request() for _ in range(5))
        with blocking.fan_out(ask, requests, limit=self._limiter) as results:
            for _ in results:
                pass

    def _chunks(self) -> None:
        requests = [self._request() for _ in range(4)]
        with blocking.fan_out_chunks(self._client, requests, limit=self._limiter) as events:
            for _ in events:
                pass

    def _race(self) -> None:
        with blocking.race(self._client, [self._request(), self._request()]) as winner:
            for _ in winner:
                pass

    def _whole_client(self) -> None:
        with self._new_client() as own:
            self._ask(own, self._request())
            self._ask(own, self._request())

    def _entered(self) -> None:
        with blocking.fan_out(self._client.complete, [self._request()], limit=self._limiter):
            pass
        with self._client.chat.completions.stream(**self._request()):
            pass

    def _in_a_loop(self) -> None:
        async def main() -> None:
            self._ask(self._client, self._request())

        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()


@contextmanager
def interrupting(seed: int, times: int = 0) -> Iterator[Interrupted]:
    """Run it during the block, at least for so many operations; then what is given is complete."""
    command = [sys.executable, "-m", "tests.soak.interrupted", str(seed), str(times)]
    found = Interrupted()
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield found
            output, _ = process.communicate(timeout=2 * HUNG + times)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        found.violations.append(f"the interrupted process has ended with {process.returncode}")
        return
    told = msgspec.json.decode(output, type=Interrupted)
    found.signals, found.forks, found.violations = told.signals, told.forks, told.violations


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    seed, times = int(sys.argv[1]), int(sys.argv[2])
    with serving(seed) as server:
        program = Program(seed, server)
        program.run(times)
    print(msgspec.json.encode(program.found).decode())


if __name__ == "__main__":
    main()
