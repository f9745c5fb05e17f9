"""Makes the portal of its parts."""

from __future__ import annotations

from datetime import timedelta

from flask import Flask

from portal import api, installed, runtime, views
from portal.api import door, key_use, limits
from portal.audit import chain
from portal.clock_watch import KnownClock
from portal.config import Config, load_config
from portal.db.engine_settings import engine_settings
from portal.db.session import db, migrate, prepare_engine
from portal.diagnosis import inspector
from portal.events import ingest
from portal.fairness.company import Company
from portal.fairness.places import Places
from portal.installation import KnownName
from portal.jobs import RunningWorker
from portal.journal import request_ids, security_log
from portal.outbound.access_tokens import Tokens
from portal.outbound.looking import Looking
from portal.queues import Queues
from portal.redis_trouble import RedisTrouble
from portal.runtime import Runtime
from portal.storage import allowance
from portal.upkeep import readiness, refusals, vitals
from portal.views import page_limits
from portal.web import access, cookies, form_limits, hosts, proxies, strange_headers
from portal.web.defects import Portal
from portal.web.extensions import csrf, limiter, limiter_settings, login


def make(config: Config | None) -> Flask:
    """The portal (portal.create_app)."""
    config, redis_trouble = config or load_config(), RedisTrouble()
    app = Portal("portal", static_folder=installed.folder("static"))
    app.config.update(
        PORTAL=config,
        SECRET_KEY=config.secret_keys[0],
        SECRET_KEY_FALLBACKS=list(config.secret_keys[1:]),
        SQLALCHEMY_DATABASE_URI=config.database_url,
        SQLALCHEMY_ENGINE_OPTIONS=engine_settings(config.database_url, config.web_threads),
        PERMANENT_SESSION_LIFETIME=timedelta(hours=config.session_hours),
        SESSION_COOKIE_NAME=cookies.SESSION,
        # A fragment that answers late must not bring back the session from before a save: what
        # the save had to say would be lost. A sign-in ends by its age, whatever is asked.
        SESSION_REFRESH_EACH_REQUEST=False,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=config.secure_cookies,
        WTF_CSRF_TIME_LIMIT=None,
        **limiter_settings(config.redis_url, config.secret_keys[0], redis_trouble),
    )
    app.wsgi_app = hosts.add_to(app.wsgi_app, config)  # type: ignore[method-assign, assignment]
    app.wsgi_app = door.add_to(app, app.wsgi_app)  # type: ignore[method-assign, assignment]
    if config.proxies:
        # Limits on tries count by address; without this it would be the proxy's for everyone.
        app.wsgi_app = proxies.add_to(app.wsgi_app, config.proxies)  # type: ignore[method-assign, assignment]
    app.wsgi_app = cookies.add_to(app.wsgi_app)  # type: ignore[method-assign, assignment]
    app.wsgi_app = strange_headers.add_to(app.wsgi_app)  # type: ignore[method-assign, assignment]
    app.wsgi_app = request_ids.add_to(app.wsgi_app)  # type: ignore[method-assign, assignment]
    app.before_request(hosts.check_host)
    form_limits.init_app(app)
    app.after_request(security_log.note_answer)
    db.init_app(app)
    migrate.init_app(app, db, directory=str(installed.folder("migrations")))
    csrf.init_app(app)
    login.init_app(app)
    limiter.init_app(app)
    with app.app_context():
        database = prepare_engine(db.engine, Company(config.data_dir))
    chain.install(db.session)
    app.extensions[runtime.NAME] = Runtime(
        # What each of these remembers, its class says.
        database,
        redis_trouble,
        Queues(config.redis_url),
        KnownName(),
        KnownClock(),
        Places(config.web_threads),
        door.Door(),
        limits.Limits(),
        key_use.KeyUse(),
        page_limits.PageLimits(),
        allowance.KnownUsage(),
        ingest.Ingest(),
        Tokens(),
        Looking(),
        inspector.SlowAnswers(),
        readiness.Readiness(),
        refusals.Refusals(),
        vitals.KnownVitals(),
        RunningWorker(),
    )

    views.init_app(app)
    api.init_app(app)
    app.before_request(access.check_access)
    page_limits.init_app(app)
    app.context_processor(access.template_context)
    return app
