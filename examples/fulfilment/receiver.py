"""A warehouse: each order becomes a pick list, unless it was cancelled, even before it came."""

from examples.receiving import serve

cancelled = set()


def handle(event):
    """Pick an order, or stop it."""
    order = event["data"]
    if event["type"] == "order.cancelled":
        cancelled.add(order["id"])
        return f"Order {order['number']} will not be picked."
    if order["id"] in cancelled:
        return f"Order {order['number']} was cancelled already."
    items = ", ".join(f"{line['quantity']} × {line['sku']}" for line in order["lines"])
    address = order["shipping_address"]
    return f"Order {order['number']}: pick {items}; send to {address['city']}."


if __name__ == "__main__":
    serve(handle, port=9003)
