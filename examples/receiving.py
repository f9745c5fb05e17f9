"""What a receiver owes the portal: verify, handle each event once, answer."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from examples.verify.verify import verify_standard


def listen(handler, port):
    """Serve 127.0.0.1:port, or PORT from the environment, until Ctrl-C."""
    port = int(os.environ.get("PORT", port))
    try:
        server = HTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        sys.exit(
            f"Port {port} cannot be listened on ({error.strerror}); set PORT to a free one "
            "before examples.setup, which tells the portal."
        )
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


def serve(handle, port):
    """Serve POST, verifying with SECRET from the environment.

    `handle` takes an event and gives a sentence, which is the answer: people read it in the
    portal. When it raises, the connection ends without an answer, and the portal tries again.
    """
    secret = os.environ.get("SECRET") or sys.exit("SECRET is missing: run examples.setup first.")
    # In memory, to be short: a real receiver keeps the IDs where it keeps its work.
    handled = set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            if not verify_standard(secret, headers, body):
                self.answer(401, "The signature does not fit.")
                return
            event_id = headers["webhook-id"]
            if event_id in handled:
                self.answer(200, "This event was handled before.")
                return
            sentence = handle(json.loads(body))
            handled.add(event_id)
            self.answer(200, sentence)

        def answer(self, status, sentence):
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.end_headers()
            self.wfile.write(sentence.encode())
            print(f"{status} {sentence}", flush=True)

        def log_message(self, *_):
            """The sentence says more."""

    listen(Handler, port)
