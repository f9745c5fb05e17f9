"""An ERP: keeps business customers under numbers of its own, and tells the store the number."""

import itertools
import json
import os
import urllib.request

from examples.receiving import serve

API = os.environ.get("API", "http://127.0.0.1:8000/api/v1")

numbers = (f"ERP-{number}" for number in itertools.count(10_001))
erp_ids = {}


def handle(event):
    """Take a customer in; the first time, write the ERP's ID back."""
    customer = event["data"]
    if not customer.get("is_business"):
        return f"Customer {customer['id']} is no business customer."
    if customer["id"] in erp_ids:
        return f"Customer {customer['id']} is {erp_ids[customer['id']]} and up to date."
    erp_ids[customer["id"]] = next(numbers)
    write_back(event, erp_ids[customer["id"]])
    return f"Customer {customer['id']} is {erp_ids[customer['id']]} now."


def write_back(event, erp_id):
    """Tell the store. A store changes its record and sends this event; here the ERP does both.

    The event's `id` is made from the first event's, so that a repeat stores nothing twice.
    """
    changed = {
        "id": f"{event['id']}-erp",
        "type": "customer.updated",
        "object_id": event["object_id"],
        "source_user_type": "erp",
        "correlation_id": event["correlation_id"] or event["id"],
        "data": event["data"] | {"erp_id": erp_id},
        "previous": {"erp_id": None},
    }
    request = urllib.request.Request(
        f"{API}/events",
        data=json.dumps(changed).encode(),
        headers={
            "Authorization": f"Bearer {os.environ['KEY']}",
            "Content-Type": "application/json",
        },
    )
    urllib.request.urlopen(request, timeout=10).close()


if __name__ == "__main__":
    serve(handle, port=9002)
