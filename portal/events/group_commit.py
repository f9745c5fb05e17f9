"""Requests that come at the same moment share one transaction, and so one wait for the disk.

Whoever has the turn stores what all others wait for; while it waits for the disk the next group
gathers (group commit: DeWitt and others, "Implementation Techniques for Main Memory Database
Systems", 1984). Alone, a request stores its own at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class GroupCommit(Generic[Task, Result]):
    """Runs the tasks of several threads in groups, one group at a time.

    `run` gives the result of each task of a group, or the exception that it ends with; what it
    raises ends all of them. `weigh` says how much a task is: a group has at most `most`, or one
    task.
    """

    def __init__(
        self, run: Callable[[list[Task]], list[Result | Exception]],
        weigh: Callable[[Task], int], most: int,
    ):
        self._run = run
        self._weigh = weigh
        self._most = most
        self._gate = threading.Lock()
        self._waiting: deque[tuple[Task, Future[Result]]] = deque()
        self._turn = threading.Lock()

    def take(self, task: Task) -> Result:
        """The result of a task, run by this thread or by another; raises what it ends with."""
        future: Future[Result] = Future()
        with self._gate:
            self._waiting.append((task, future))
        with self._turn:
            while not future.done():
                self._run_group()
        return future.result()

    def _run_group(self) -> None:
        group = self._group()
        try:
            results = self._run([task for task, _ in group])
        except BaseException as error:
            for _, future in group:
                future.set_exception(error)
            raise
        for (_, future), result in zip(group, results, strict=True):
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    def _group(self) -> list[tuple[Task, Future[Result]]]:
        group: list[tuple[Task, Future[Result]]] = []
        weight = 0
        with self._gate:
            while self._waiting:
                weight += self._weigh(self._waiting[0][0])
                if group and weight > self._most:
                    break
                group.append(self._waiting.popleft())
        return group
