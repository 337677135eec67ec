"""Routes of the data plane: models, and what calls them."""

from __future__ import annotations

from functools import partial

from flask import Blueprint, Response

from aikeys.relay_simulator import completions
from aikeys.relay_simulator.access import data_key, rate_view
from aikeys.relay_simulator.account import Account
from aikeys.relay_simulator.answering import respond, serve
from aikeys.relay_simulator.call import Answer
from aikeys.relay_simulator.dispatch import Operation, Rule
from aikeys.relay_simulator.keys import CALL_PERMISSIONS


def data_blueprint(account: Account) -> Blueprint:
    """Everything below ``/v1`` that a data key calls, and the health check."""
    blueprint = Blueprint("data", __name__)

    def add(method: str, path: str, permissions: tuple[str, ...], operation: Operation) -> None:
        allow = partial(data_key, permissions=permissions)
        serve(blueprint, account, method, path, Rule(allow, operation, model_call=True, lagging=True))

    add("GET", "/models", CALL_PERMISSIONS, completions.models)
    add("POST", "/chat/completions", ("chat", "completions"), completions.chat)
    add("POST", "/embeddings", ("embeddings",), completions.embeddings)

    def healthz() -> Response:
        with account.lock:
            rate = rate_view(account, None, account.clock.now())
        return respond(Answer(200, {"status": "ok"}, rate.headers()))

    blueprint.add_url_rule("/healthz", view_func=healthz, provide_automatic_options=False)
    return blueprint
