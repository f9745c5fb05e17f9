"""Web process: `front` on Granian (`granian --interface rsgi --http 1 portal.run.wsgi:front`), as a
start of everything has it; or `app` on any WSGI server, such as `flask --app portal.run.wsgi run`.
At the top of a working tree `wsgi` is the same."""

import multiprocessing
import os
import signal
import sys

granian = multiprocessing.parent_process()
if granian:
    # Granian starts its own workers, and a forked one has its handler, which sets a flag of a copy:
    # a worker that is asked to end before it has a handler of its own would live on. First of all,
    # for what is imported below takes seconds.
    inherited = signal.getsignal(signal.SIGTERM)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    if getattr(getattr(inherited, "__self__", None), "interrupt_signal", False):
        sys.exit(0)

from portal import create_app, processes  # noqa: E402
from portal.config import SettingError, load_config  # noqa: E402
from portal.fairness import gate  # noqa: E402
from portal.front.application import Front  # noqa: E402
from portal.journal import log_lines  # noqa: E402
from portal.run import first_start  # noqa: E402
from portal.web import access  # noqa: E402

if granian:
    if granian.pid and processes.SUPERVISED in os.environ:
        # They must not outlive it.
        processes.die_with_parent(granian.pid)
    # It ends when its answers have: live tails look for this.
    processes.notice_signals()
    processes.show_life()

os.umask(0o077)
try:
    config = load_config()
    log_lines.set_up(config.log_level)
    app = create_app(config)
    first_start.guard(app)
    # It has its own threads, and no more than those.
    front = Front(app.wsgi_app, config, access.prover(app), access.signed_in(app))
    app.wsgi_app = gate.add_to(app.wsgi_app, config.web_threads)  # type: ignore[method-assign, assignment]
except SettingError as error:
    sys.exit(str(error))
processes.has_started()
