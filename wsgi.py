"""Web process: `flask --app wsgi run`, `granian --interface wsgi wsgi:app`, any WSGI server."""

import os
import sys

from portal import create_app, supervisor
from portal.config import SettingError

if supervisor.SUPERVISED in os.environ:
    # Granian forks its own workers; they must not outlive it.
    supervisor.die_with_parent()

try:
    app = create_app()
except SettingError as error:
    sys.exit(str(error))
