"""The event types as the webhook form offers them."""

from __future__ import annotations

from typing import Any

from portal.events import catalogue
from portal.views.webhook_form import WebhookForm


def groups(merchant_id: int, typed: WebhookForm) -> list[dict[str, Any]]:
    """The catalogue as the form offers it: groups with their wildcard, narrowed by the search.

    What is chosen is always there. Patterns that are no checkbox of a group come last.
    """
    search = typed.event_search.casefold().split()
    chosen = set(typed["events"])
    offered = {"*"}
    found = []

    def wanted(title: str, one: catalogue.EventType) -> bool:
        text = f"{title} {one.name} {one.description}".casefold()
        return one.name in chosen or all(word in text for word in search)

    for title, types in catalogue.groups(merchant_id).items():
        starts = dict.fromkeys(f"{one.name.partition('.')[0]}.*" for one in types)
        wildcards = [pattern for pattern in starts if pattern not in offered]
        offered |= {one.name for one in types} | set(wildcards)
        shown = [one for one in types if wanted(title, one)]
        if shown or chosen & set(wildcards):
            count = len(chosen & ({one.name for one in types} | set(wildcards)))
            found.append({"title": title, "wildcards": wildcards, "types": shown, "count": count})
    others = [pattern for pattern in typed["events"] if pattern not in offered]
    if others:
        found.append({"title": "Others", "wildcards": others, "types": [], "count": len(others)})
    return found
