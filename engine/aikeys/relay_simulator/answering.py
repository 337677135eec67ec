"""From a decision to a Flask response, the same for every blueprint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from flask import Blueprint, Response, request

from aikeys.relay_simulator.account import Account
from aikeys.relay_simulator.call import Answer, Call
from aikeys.relay_simulator.dispatch import Rule, dispatch, encode
from aikeys.relay_simulator.plane import CALL


def current_call() -> Call:
    """The call that is being answered."""
    call: Call = request.environ[CALL]
    return call


def respond(answer: Answer) -> Response:
    """An `Answer` on the wire."""
    if answer.events is not None:
        return Response(
            _events(answer.events), answer.status, answer.headers, content_type="text/event-stream"
        )
    return Response(encode(answer.body), answer.status, answer.headers, content_type="application/json")


def _events(events: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    for event in events:
        yield b"data: " + encode(event) + b"\n\n"
    yield b"data: [DONE]\n\n"


def serve(blueprint: Blueprint, account: Account, method: str, path: str, rule: Rule) -> None:
    """Serve `method` on `path` by `rule`."""
    blueprint.add_url_rule(
        path,
        endpoint=f"{method} {path}".replace(".", "_"),
        view_func=_view(account, rule),
        methods=[method],
        provide_automatic_options=False,
    )


def _view(account: Account, rule: Rule) -> Callable[..., Response]:
    def view(**arguments: str) -> Response:
        return respond(dispatch(account, current_call(), rule, arguments))

    return view
