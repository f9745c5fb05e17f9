"""The web process, by hand: `granian --interface rsgi --http 1 wsgi:front` (portal.wsgi)."""

from portal.wsgi import app, front

__all__ = ["app", "front"]
