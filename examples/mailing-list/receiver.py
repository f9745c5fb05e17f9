"""A mailing list: people who subscribe are on it, people who unsubscribe are not."""

from examples.receiving import serve

latest = {}


def handle(event):
    """Add or remove someone, unless something newer is known of them: events may overtake."""
    email = event["data"]["email"]
    newest, _ = latest.get(email, (0, ""))
    if event["sequence"] < newest:
        return f"{email} has decided anew since; nothing was changed."
    latest[email] = (event["sequence"], event["type"])
    people = [email for email, (_, last) in latest.items() if last == "user.subscribed"]
    done = "is on" if email in people else "is off"
    return f"{email} {done} the list of {len(people)}."


if __name__ == "__main__":
    serve(handle, port=9004)
