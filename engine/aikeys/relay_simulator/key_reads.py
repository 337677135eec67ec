"""Reading keys: one, many, with their use."""

from __future__ import annotations

import re

from aikeys.relay_simulator.access import Principal
from aikeys.relay_simulator.account import Account
from aikeys.relay_simulator.call import Answer
from aikeys.relay_simulator.dispatch import Request
from aikeys.relay_simulator.errors import RelayError
from aikeys.relay_simulator.keys import STATES, TERMINAL_STATES, Key, ManagementKey
from aikeys.relay_simulator.usage import BUCKET_SECONDS, GROUPS

MAX_PAGE = 100
DEFAULT_PAGE = 20
_KEY_ID = re.compile(r"key_[0-9A-HJKMNP-TV-Z]{26}")
_WHOLE = re.compile(r"[0-9]{1,12}")


def visible(account: Account, principal: Principal, reference: str, now: float) -> Key:
    """The key of that id or exact name; what the principal may not see does not exist."""
    key = account.keys.get(reference) or account.keys.by_name(reference, now)
    if key is None or not (principal.sees(key) if isinstance(principal, ManagementKey) else principal is key):
        raise RelayError("key_not_found")
    return key


def find(request: Request, reference: str) -> Key:
    """`visible` for this request."""
    return visible(request.account, request.principal, reference, request.now)


def get(request: Request) -> Answer:
    """``GET /keys/{id}``."""
    key = find(request, request.arguments["key"])
    return Answer(200, key.render(request.now), [("ETag", f'"{key.etag}"')])


def metadata(request: Request) -> Answer:
    """``GET /keys/{name}/metadata``."""
    key = find(request, request.arguments["key"])
    return Answer(200, {**key.render(request.now), "usage": request.account.usage.of_key(key)})


def list_keys(request: Request) -> Answer:
    """``GET /keys``: in order of id; what has ended only when `status` asks for it."""
    parameters = request.parameters(
        "limit", "after", "name_prefix", "team_id", "status", "metadata[]", "created_before", "created_after"
    )
    last = {name: values[-1] for name, values in parameters.items()}
    limit = _whole(last, "limit", 1, MAX_PAGE)
    limit = DEFAULT_PAGE if limit is None else limit
    after = last.get("after")
    if after is not None and not _KEY_ID.fullmatch(after):
        raise RelayError("invalid_request", "after is a key id", param="after")
    states = set(last["status"].split(",")) if "status" in last else set(STATES) - set(TERMINAL_STATES)
    if not states <= set(STATES):
        raise RelayError("invalid_request", f"status is some of: {', '.join(STATES)}", param="status")
    before, since = _whole(last, "created_before"), _whole(last, "created_after")
    pairs = {name[9:-1]: value for name, value in last.items() if name.startswith("metadata[")}
    prefix, team = last.get("name_prefix", ""), last.get("team_id")
    now = request.now
    page: list[Key] = []
    for key in request.account.keys.page(after, terminal=bool(states & set(TERMINAL_STATES))):
        if (
            key.visible_from <= now
            and key.status in states
            and key.name.startswith(prefix)
            and (team is None or key.team_id == team)
            and (before is None or int(key.created_at) < before)
            and (since is None or int(key.created_at) > since)
            and all(key.metadata.get(name) == value for name, value in pairs.items())
            and isinstance(request.principal, ManagementKey)
            and request.principal.sees(key)
        ):
            page.append(key)
            if len(page) > limit:
                break
    more = len(page) > limit
    page = page[:limit]
    return Answer(
        200,
        {
            "object": "list",
            "data": [key.render(now) for key in page],
            "has_more": more,
            "last_id": page[-1].id if page else None,
        },
    )


def usage(request: Request) -> Answer:
    """``GET /usage``."""
    parameters = request.parameters("key_id", "key_id[]", "team_id", "from", "to", "bucket", "group_by")
    last = {name: values[-1] for name, values in parameters.items()}
    bucket, group_by = last.get("bucket", "1d"), last.get("group_by")
    if bucket not in BUCKET_SECONDS:
        raise RelayError("invalid_request", "bucket is 1h or 1d", param="bucket")
    if group_by is not None and group_by not in GROUPS:
        raise RelayError("invalid_request", f"group_by is one of: {', '.join(GROUPS)}", param="group_by")
    start = _whole(last, "from")
    end = _whole(last, "to")
    ids = parameters.get("key_id[]", []) + parameters.get("key_id", [])
    principal, team = request.principal, last.get("team_id")
    wanted = {
        key.id
        for key in request.account.keys
        if isinstance(principal, ManagementKey)
        and principal.sees(key)
        and (not ids or key.id in ids)
        and (team is None or key.team_id == team)
    }
    data = request.account.usage.buckets(
        wanted, start or 0, int(request.now) + 1 if end is None else end, bucket, group_by
    )
    return Answer(200, {"object": "list", "data": data, "has_more": False})


def _whole(values: dict[str, str], name: str, low: int = 0, high: int = 10**12) -> int | None:
    value = values.get(name)
    if value is None:
        return None
    if not _WHOLE.fullmatch(value) or not low <= int(value) <= high:
        raise RelayError("invalid_request", f"{name} must be a whole number from {low} to {high}", param=name)
    return int(value)
