"""What a mount's config names instead of holding, read from the upstream's KV engines with the sidecar's own token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aikeys.engine.references import Reference, ReferenceUnreadable
from aikeys.framework.deadline import Deadline
from aikeys.framework.request import Operation
from aikeys.sidecar.exchange import Reply
from aikeys.sidecar.mount_table import MountTable
from aikeys.sidecar.own_identity import NotLoggedIn, OwnIdentity
from aikeys.sidecar.upstream import UpstreamDown
from aikeys.sidecar.verdicts import decide_capabilities

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar


class ReferenceReader:
    """An `aikeys.engine.references.ReadReference`."""

    def __init__(self, own: OwnIdentity, mounts: MountTable) -> None:
        self._own = own
        self._mounts = mounts

    def __call__(self, mount_uuid: str, reference: Reference, deadline: Deadline) -> str:
        try:
            namespace = self._mounts.by_uuid(mount_uuid).namespace
            reply = self._own.request("GET", reference.path, namespace=namespace, deadline=deadline)
        except KeyError:
            raise ReferenceUnreadable(f"{reference} belongs to a mount that is gone", passing=False) from None
        except (UpstreamDown, NotLoggedIn) as error:
            raise ReferenceUnreadable(f"{reference} cannot be read: {error}", passing=True) from error
        return value_of(reply, reference)


def value_of(reply: Reply, reference: Reference) -> str:
    """The value in a KV engine's answer, version 1 or 2. Raises `ReferenceUnreadable`; its texts hold no value."""
    if reply.status == 403:
        raise ReferenceUnreadable(
            f"{reference} cannot be read: the sidecar's own policy must grant read on {reference.path} "
            "(policies/sidecar.hcl has a block for it)",
            passing=False,
        )
    parsed = reply.json()
    data = parsed.get("data") if isinstance(parsed, dict) else None
    if reply.status == 404:
        # A KV version 2 answers so for a deleted version, with data in which there is none.
        raise ReferenceUnreadable(
            f"{reference} names nothing: there is no entry at {reference.path}; at a KV version 2 the path has data/ "
            "after its mount",
            passing=False,
        )
    if reply.status != 200 or not isinstance(data, dict):
        raise ReferenceUnreadable(
            f"{reference} cannot be read: the Vault behind this sidecar answered {reply.status}",
            passing=reply.status not in {400, 405},
        )
    if isinstance(data.get("data"), dict) and isinstance(data.get("metadata"), dict):
        data = data["data"]
    value = data.get(reference.field)
    if not isinstance(value, str) or not value:
        raise ReferenceUnreadable(
            f"{reference} names nothing: the entry at {reference.path} has no text in a field {reference.field}",
            passing=False,
        )
    return value


def can_read(sidecar: Sidecar, token: str, namespace: str, path: str, *, deadline: Deadline) -> bool:
    """Whether the token may read the path; asked with the sidecar's own, which spends no use of it."""
    if not token:
        return False
    reply = sidecar.own.request(
        "POST", "sys/capabilities", {"token": token, "paths": [path]}, namespace=namespace, deadline=deadline
    )
    parsed = reply.json()
    data = parsed.get("data") if isinstance(parsed, dict) else None
    held = data.get(path) if isinstance(data, dict) else None
    if reply.status == 400:
        return False
    if reply.status != 200 or not isinstance(held, list):
        raise UpstreamDown(
            f"the Vault behind this sidecar answered {reply.status} to a question about capabilities"
            + (": the sidecar's policy must grant update on sys/capabilities" if reply.status == 403 else "")
        )
    return decide_capabilities(Operation.READ, [str(item) for item in held])
