"""A process that asks for a server's health, apart from the one that attacks it."""

from __future__ import annotations

import http.client
import sys
import threading
import time

HERTZ = 50


def main(port: int) -> None:
    """For each line of the standard input ask until the next one comes; print seconds from when each was due."""
    for _ in iter(sys.stdin.readline, ""):
        stop = threading.Event()
        thread = threading.Thread(target=_ask, args=(port, stop))
        thread.start()
        sys.stdin.readline()
        stop.set()
        thread.join()


def _ask(port: int, stop: threading.Event) -> None:
    wire, latencies = http.client.HTTPConnection("127.0.0.1", port), []
    due = time.perf_counter()
    while not stop.is_set():
        time.sleep(max(due - time.perf_counter(), 0))
        for _ in range(2):  # a connection that was idle may have been ended
            try:
                wire.request("GET", "/healthz")
                assert wire.getresponse().read() == b'{"status":"ok"}'
                break
            except (http.client.HTTPException, OSError):
                wire.close()
        else:
            raise AssertionError("no answer")
        latencies.append(time.perf_counter() - due)
        due += 1 / HERTZ
    print(*latencies, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
