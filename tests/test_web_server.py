"""The web server started by hand: granian, as README has it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.ports import free_port

pytestmark = [pytest.mark.engine, pytest.mark.whole]

ROOT = Path(__file__).resolve().parent.parent
MOMENTS = (0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4)


@pytest.mark.parametrize("seconds", MOMENTS)
@pytest.mark.usefixtures("app")
def test_it_ends_whenever_it_is_told_to(environment: dict[str, str], seconds: float):
    server = subprocess.Popen(
        [sys.executable, "-m", "granian", "--interface", "wsgi", "--workers", "2",
         "--port", str(free_port()), "wsgi:app"],
        cwd=ROOT, env=os.environ | environment, start_new_session=True,
    )
    try:
        # Before its signals are handled SIGTERM simply ends it; after, it ends its workers first.
        time.sleep(seconds)
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) in (0, -signal.SIGTERM)
        with pytest.raises(ProcessLookupError):
            os.killpg(server.pid, 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)
