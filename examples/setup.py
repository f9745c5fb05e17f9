"""Makes the webhooks of an example through the API:

    eval "$(python3 -m examples.setup examples/erp/webhook.json)"

and deletes them again:

    python3 -m examples.setup --remove examples/erp/webhook.json

KEY in the environment is an API key that may write; API is the portal's address, if it is not
http://127.0.0.1:8000/api/v1; TARGET is the receiver's address, or PORT its port, if it is not the
file's. A webhook that an earlier call made of the same file for the same address is deleted first,
so that nothing arrives twice. Prints the line that hands the signing secret to the shell, where the
receiver finds it.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

API = os.environ.get("API", "http://127.0.0.1:8000/api/v1")


def call(method, path, content=None):
    """The portal's answer to a request, None where it has no body."""
    key = os.environ.get("KEY") or sys.exit("KEY is missing: export the key that bin/run printed.")
    request = urllib.request.Request(
        API + path,
        data=None if content is None else json.dumps(content).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:
        sys.exit(f"The portal refused {method} {path}: {error.read().decode()}")
    except urllib.error.URLError as error:
        sys.exit(
            f"No portal answers at {API} ({error.reason}): start it, or export API=… where "
            "it has another port."
        )
    return json.loads(body) if body else None


def target(url):
    """Where the receiver listens: the file's URL, unless TARGET or PORT says otherwise."""
    if "PORT" in os.environ:
        url = urlsplit(url)._replace(netloc=f"127.0.0.1:{os.environ['PORT']}").geturl()
    return os.environ.get("TARGET", url)


def remove(webhook):
    """Delete what was made of this webhook before; what it was sent stays in the log."""
    for made in call("GET", "/webhooks")["data"]:
        if all(made[name] == webhook[name] for name in ("description", "url")):
            call("DELETE", f"/webhooks/{made['id']}")
            print(f"Deleted {made['id']}: {made['description']}", file=sys.stderr)


def make(webhook):
    """Make the webhook, and print its secret for the shell."""
    made = call("POST", "/webhooks", webhook)
    print(f"Made {made['id']}: {made['description']}", file=sys.stderr)
    print(f"export SECRET={made['secret']}")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    only_remove = sys.argv[1] == "--remove"
    for file in sys.argv[1 + only_remove :]:
        fields = json.loads(Path(file).read_text())
        fields["url"] = target(fields["url"])
        remove(fields)
        if not only_remove:
            make(fields)
