"""Requests that come in at the same moment share one transaction, and so one wait for the disk.

One thread stores what all of its group have brought; while it waits for the disk, the next group
gathers (group commit: DeWitt and others, "Implementation Techniques for Main Memory Database
Systems", 1984). A request that is alone is stored at once.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class GroupCommit(Generic[Task, Result]):
    """Runs the tasks of several threads in groups, one group at a time.

    `run` returns for each task of a group its result or the exception it ended with; if it raises,
    all of them end with that. `then` gets the results of a group before any thread has its own,
    while the next group runs. `weigh` gives a task's weight: a group weighs at most `most()`, or is
    a single task.
    """

    def __init__(
        self,
        run: Callable[[list[Task]], list[Result | Exception]],
        then: Callable[[list[Result]], None],
        weigh: Callable[[Task], int],
        most: Callable[[], int],
    ):
        self._run = run
        self._then = then
        self._weigh = weigh
        self._most = most
        self._gate = threading.Lock()
        self._waiting: deque[_Waiting[Task, Result]] = deque()
        self._turn = threading.Lock()

    def submit(self, task: Task) -> Result:
        """The result of a task, run by this thread or another. Raises what the task ended with."""
        waiting = _Waiting[Task, Result](task)
        with self._gate:
            self._waiting.append(waiting)
        done: list[tuple[list[_Waiting[Task, Result]], list[Result | Exception]]] = []
        try:
            with self._turn:
                while not waiting.is_taken:
                    group = self._group()
                    done.append((group, self._results(group)))
        finally:
            with contextlib.ExitStack() as giving:
                # All of them get theirs, even if `then` raises: no thread may wait for ever.
                for group, results in reversed(done):
                    giving.callback(self._give, group, results)
        return waiting.future.result()

    def _results(self, group: list[_Waiting[Task, Result]]) -> list[Result | Exception]:
        try:
            return self._run([waiting.task for waiting in group])
        except Exception as error:  # noqa: BLE001 - theirs who are in it; this thread's may be next
            return [error] * len(group)
        except BaseException as error:
            for waiting in group:
                waiting.future.set_exception(error)
            raise

    def _give(self, group: list[_Waiting[Task, Result]], results: list[Result | Exception]) -> None:
        try:
            self._then([result for result in results if not isinstance(result, Exception)])
        finally:
            for waiting, result in zip(group, results, strict=True):
                if isinstance(result, Exception):
                    waiting.future.set_exception(result)
                else:
                    waiting.future.set_result(result)

    def _group(self) -> list[_Waiting[Task, Result]]:
        group: list[_Waiting[Task, Result]] = []
        weight, most = 0, self._most()
        with self._gate:
            while self._waiting:
                weight += self._weigh(self._waiting[0].task)
                if group and weight > most:
                    break
                group.append(self._waiting.popleft())
                group[-1].is_taken = True
        return group


class _Waiting(Generic[Task, Result]):
    """A task that waits for its turn, and then for its result."""

    def __init__(self, task: Task):
        self.task = task
        self.future: Future[Result] = Future()
        self.is_taken = False
