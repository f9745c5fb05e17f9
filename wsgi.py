"""Web process: `flask --app wsgi run`, `granian --interface wsgi wsgi:app`, any WSGI server."""

import sys

from portal import create_app
from portal.config import SettingError

try:
    app = create_app()
except SettingError as error:
    sys.exit(str(error))
