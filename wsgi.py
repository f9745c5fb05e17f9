"""Web process: `flask --app wsgi run`, `granian --interface wsgi wsgi:app`, any WSGI server."""

import multiprocessing
import os
import signal
import sys

from portal import create_app, processes
from portal.config import SettingError

granian = multiprocessing.parent_process()
if granian and granian.pid and processes.SUPERVISED in os.environ:
    # Granian starts its own workers; they must not outlive it.
    processes.die_with_parent(granian.pid)
    # Forked, they have its handler too, which would swallow a SIGTERM that comes before theirs.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
if granian:
    # It ends when its answers have: live tails look for this.
    processes.notice_signals()

try:
    app = create_app()
except SettingError as error:
    sys.exit(str(error))
processes.has_started()
