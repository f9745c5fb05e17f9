"""Worker processes: `python worker.py` starts all parts; `--part` and `--processes` choose.

deliver      drains lanes (RQ, queue `deliveries`)
maintenance  sweeps and cleans up (RQ, queue `maintenance`)
cron         enqueues the sweep every few seconds and the clean-up every night (RQ cron)
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.cron import CronJob, CronScheduler
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from portal import create_app, jobs, queues
from portal.config import Config, SettingError, load_config
from portal.delivery import lanes
from portal.processes import keep_running

SCRIPT = str(Path(__file__).resolve())
PARTS = ("deliver", "maintenance", "cron")


class PortalWorker(SimpleWorker):
    """An RQ worker that runs jobs in its own process, so that connections stay open from one
    drain to the next, and that ends a long drain in order when it is told to stop."""

    def __init__(self, queue: str, connection: Redis):
        super().__init__([queue], connection=connection, serializer=JSONSerializer)
        jobs.Host.should_stop = staticmethod(lambda: self._stop_requested)
        jobs.Host.keep_alive = staticmethod(self._keep_alive)

    def _keep_alive(self) -> None:
        """Tell RQ that the job and the worker live; a drain may run for days."""
        for execution in list(self.executions.values()):
            try:
                self.maintain_heartbeats(execution.job, execution)
            except (RedisError, NoSuchJobError) as error:
                # Redis is away, or was wiped; the lane's lease is in the database.
                logging.getLogger(__name__).warning("RQ was not told of the drain: %s", error)


class PortalCronJob(CronJob):
    """A cron job that is queued as JSON; RQ's own would use pickle."""

    def enqueue(self, connection: Redis) -> Job:
        """Queue the job once."""
        queue = Queue(self.queue_name, connection=connection, serializer=JSONSerializer)
        return queue.enqueue(self.func_name, **self.job_options)


def run_worker(queue: str) -> None:
    """Work on one queue until told to stop."""
    app = create_app()
    with app.app_context():
        lanes.prepare_lanes()
        PortalWorker(queue, queues.blocking_client()).work(logging_level="WARNING")


def run_cron() -> None:
    """Enqueue the sweep and the nightly clean-up until told to stop."""
    app = create_app()
    config: Config = app.config["PORTAL"]
    with app.app_context():
        scheduler = CronScheduler(queues.blocking_client(), logging_level="WARNING")
        scheduler.get_jobs().extend(
            [
                PortalCronJob(
                    queues.MAINTENANCE, func=jobs.sweep, interval=config.sweep_seconds,
                    # A sweep that waited for its turn is overtaken by the next.
                    ttl=config.sweep_seconds, result_ttl=0, failure_ttl=3_600,
                ),
                PortalCronJob(
                    queues.MAINTENANCE, func=jobs.purge, cron=config.retention_cron,
                    job_timeout=6 * 3_600, result_ttl=86_400,
                ),
            ]
        )
        scheduler.start()


def main() -> None:
    """Start one part in this process, or several as children that are kept running."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", choices=(*PARTS, "all"), default="all")
    parser.add_argument(
        "--processes", type=int, default=0, metavar="N",
        help="delivering processes (default: PORTAL_WORKERS)",
    )
    arguments = parser.parse_args()
    try:
        config = load_config()
    except SettingError as error:
        sys.exit(str(error))
    logging.basicConfig(level=config.log_level, format="%(levelname)s %(name)s: %(message)s")
    # RQ's own lines about each job say nothing that the attempt log does not.
    logging.getLogger("rq").setLevel(logging.WARNING)
    if arguments.part == "cron":
        run_cron()
    elif arguments.part == "maintenance":
        run_worker(queues.MAINTENANCE)
    elif arguments.part == "deliver" and arguments.processes in (0, 1):
        run_worker(queues.DELIVERIES)
    else:
        processes = arguments.processes or config.workers
        commands = {
            f"deliver-{number + 1}": [sys.executable, SCRIPT, "--part", "deliver"]
            for number in range(processes)
        }
        if arguments.part == "all":
            for part in ("maintenance", "cron"):
                commands[part] = [sys.executable, SCRIPT, "--part", part]
        sys.exit(keep_running(commands))


if __name__ == "__main__":
    main()
