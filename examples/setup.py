"""Makes an example's webhook through the API:

    eval "$(python3 -m examples.setup examples/erp/webhook.json)"

KEY in the environment is an API key that may write; API is the portal's address, if it is not
http://127.0.0.1:8000/api/v1; TARGET is the receiver's, if it is not the file's. Prints the line
that hands the signing secret to the shell, where the receiver finds it.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

API = os.environ.get("API", "http://127.0.0.1:8000/api/v1")


def make_webhook(fields):
    """Make a webhook of these fields; the portal's answer, which holds its id and secret."""
    request = urllib.request.Request(
        f"{API}/webhooks",
        data=json.dumps(fields).encode(),
        headers={
            "Authorization": f"Bearer {os.environ['KEY']}", "Content-Type": "application/json",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        sys.exit(f"The portal refused the webhook: {error.read().decode()}")


if __name__ == "__main__":
    webhook = json.loads(Path(sys.argv[1]).read_text())
    webhook["url"] = os.environ.get("TARGET", webhook["url"])
    made = make_webhook(webhook)
    print(f"Made {made['id']}: {made['description']}", file=sys.stderr)
    print(f"export SECRET={made['secret']}")
