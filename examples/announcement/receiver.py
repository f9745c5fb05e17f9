"""A speaker and three chats: each takes its own shape of request, and answers what it announced.

None of them verifies a signature: their secret is in the address.
"""

import json
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from examples.receiving import listen

TEXTS = {
    "/slack": lambda message: message["text"],
    "/discord": lambda message: message["content"],
    "/teams": lambda message: message["attachments"][0]["content"]["body"][0]["text"],
}


class Handler(BaseHTTPRequestHandler):
    """GET /say?text=… for the speaker, POST for the chats."""

    def do_GET(self):
        self.announce(parse_qs(urlsplit(self.path).query)["text"][0])

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.announce(TEXTS[urlsplit(self.path).path](json.loads(body)))

    def announce(self, text):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write(f"Announced: {text}".encode())
        print(text, flush=True)

    def log_message(self, *_):
        """The text says more."""


if __name__ == "__main__":
    listen(Handler, port=9001)
