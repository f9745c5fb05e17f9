"""A mail server on loopback that keeps what it is sent (RFC 5321, as much as smtplib speaks)."""

from __future__ import annotations

import contextlib
import socketserver
import threading
import time
from email import message_from_bytes, policy
from email.message import EmailMessage


class Mailbox:
    """`messages` is what was taken. A test sets `answers` (command → the line that refuses it)
    and `delay` (seconds before each answer)."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.commands: list[str] = []
        self.answers: dict[str, str] = {}
        self.extensions = ["AUTH PLAIN"]
        self.delay = 0.0
        mailbox = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):  # The client hung up.
                    self.talk()

            def talk(self) -> None:
                self.say("220 mailbox")
                while line := self.rfile.readline().decode().rstrip("\r\n"):
                    mailbox.commands.append(line)
                    time.sleep(mailbox.delay)
                    verb = line.split(" ")[0].split(":")[0].upper()
                    refusal = mailbox.answers.get(verb)
                    if refusal:
                        self.say(refusal)
                    elif verb == "EHLO":
                        lines = ["mailbox", *mailbox.extensions]
                        for number, text in enumerate(lines, 1):
                            self.say(f"250{' ' if number == len(lines) else '-'}{text}")
                    elif verb == "AUTH":
                        self.say("235 welcome")
                    elif verb == "DATA":
                        self.say("354 go on")
                        self.take()
                    elif verb == "QUIT":
                        self.say("221 bye")
                        return
                    else:
                        if verb == "RCPT":
                            mailbox.recipients.append(line.partition("<")[2].partition(">")[0])
                        self.say("250 ok")

            def take(self) -> None:
                lines = []
                while (line := self.rfile.readline()) != b".\r\n":
                    lines.append(line.removeprefix(b"."))
                text = b"".join(lines)
                mailbox.messages.append(
                    message_from_bytes(text, policy=policy.default)  # type: ignore[arg-type]
                )
                self.say("250 taken")

            def say(self, line: str) -> None:
                self.wfile.write(f"{line}\r\n".encode())

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Session)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
