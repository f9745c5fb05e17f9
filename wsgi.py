"""The web process, by hand: `granian --interface rsgi --http 1 wsgi:front` (portal.run.wsgi)."""

from portal.run.wsgi import app, front

__all__ = ["app", "front"]
