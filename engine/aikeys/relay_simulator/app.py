"""The Flask application, inside the plane that gunicorn calls."""

from __future__ import annotations

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from aikeys.relay_simulator.account import Account
from aikeys.relay_simulator.answering import current_call, respond
from aikeys.relay_simulator.api_data import data_blueprint
from aikeys.relay_simulator.api_management import management_blueprint
from aikeys.relay_simulator.api_sim import sim_blueprint
from aikeys.relay_simulator.dispatch import refusal
from aikeys.relay_simulator.errors import RelayError
from aikeys.relay_simulator.plane import Plane

API_PREFIX = "/v1"


def build_plane(account: Account, *, control: bool) -> Plane:
    """Everything wired up: the WSGI application of the relay."""
    plane = Plane(account, control=control)
    plane.app = build_app(account, plane).wsgi_app
    return plane


def build_app(account: Account, plane: Plane) -> Flask:
    """Routes and the answers to what has none."""
    app = Flask("relay_simulator", static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    app.register_blueprint(management_blueprint(account), url_prefix=API_PREFIX)
    app.register_blueprint(data_blueprint(account), url_prefix=API_PREFIX)
    if plane.control:
        app.register_blueprint(sim_blueprint(plane))

    def refuse(error: RelayError) -> Response:
        return respond(refusal(account, current_call(), error))

    @app.errorhandler(RelayError)
    def relay_error(error: RelayError) -> Response:
        return refuse(error)

    @app.errorhandler(HTTPException)
    def no_such_path(error: HTTPException) -> Response:
        if error.code is not None and error.code < 500:
            return refuse(RelayError("not_found"))
        app.logger.error("unexpected", exc_info=error)
        return refuse(RelayError("internal_error"))

    return app
