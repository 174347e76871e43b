"""Scoring in threads beside the separation of the next clips, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch


class Scoring:
    """Calls functions in threads, as many at a time as torch uses cores; further ones wait, and hold no memory.

    Copies of it, as weight averaging makes them, share nothing.
    """

    def __init__(self) -> None:
        self._futures: deque[Future[Any]] = deque()
        self._done: list[Any] = []
        self._pool: ThreadPoolExecutor | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Scoring:
        return Scoring()

    def add(self, function: Callable[[], Any]) -> None:
        """Call a function in a thread; waits for the oldest one if all threads are busy, and raises its error."""
        workers = max(torch.get_num_threads(), 1)
        self._pool = self._pool or ThreadPoolExecutor(workers)
        while len(self._futures) >= workers:
            self._done.append(self._futures.popleft().result())
        self._futures.append(self._pool.submit(function))

    def results(self) -> list[Any]:
        """The results of all functions in the order in which they were added, and forget them."""
        try:
            return self._done + [future.result() for future in self._futures]
        finally:
            self._done, self._futures = [], deque()
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
                self._pool = None
