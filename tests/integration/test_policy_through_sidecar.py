"""The shipped policies, held by real logins, at the sidecar: each may do what it is for and no more."""

from __future__ import annotations

import hashlib

import hvac
import hvac.exceptions
import pytest
from tests.sidecar_stack import MOUNT, SidecarStack, eventually

from aikeys.policy.folder import default_folder, read_folder
from aikeys.policy.live import read_live
from aikeys.provision.apply import apply
from aikeys.provision.plan import make_plan

LIMITS = {"ttl": 600, "max_ttl": 3600, "permissions": ["chat"], "allowed_models": ["gpt-4.1-mini"]}


@pytest.fixture
def logins(stack: SidecarStack) -> dict[str, hvac.Client]:
    """A client for each AppRole, at the sidecar, with roles of two teams and of the two apps there."""
    operator = stack.hvac()
    files = read_folder(default_folder())
    apply(operator, files, make_plan(files, read_live(operator, files)).changes, print)
    for role in ("search.chat", "ads.chat", "customer-service", "analytics"):
        operator.write_data(f"{MOUNT}/roles/{role}", data=LIMITS)
    clients = {}
    for approle in files.approles:
        role_id = operator.auth.approle.read_role_id(approle.name)["data"]["role_id"]
        secret_id = operator.auth.approle.generate_secret_id(approle.name)["data"]["secret_id"]
        clients[approle.name] = stack.hvac("")
        clients[approle.name].auth.approle.login(role_id, secret_id)
    return clients


def refused(call: object, *arguments: object, **options: object) -> None:
    assert callable(call)
    with pytest.raises(hvac.exceptions.Forbidden):
        call(*arguments, **options)


def test_each_login_may_do_what_it_is_for_and_no_more(
    stack: SidecarStack, logins: dict[str, hvac.Client]
) -> None:
    engineer, desk, analytics = (logins[name] for name in ("ml-engineer", "customer-service", "analytics"))
    admin, auditor = logins["platform-admin"], logins["auditor"]

    # An engineer: keys of the team's own roles, and the end of them by their path.
    key = engineer.read(f"{MOUNT}/creds/search.chat")
    assert stack.works(key["data"]["api_key"])
    refused(engineer.read, f"{MOUNT}/creds/ads.chat")
    refused(engineer.write_data, f"{MOUNT}/roles/search.chat", data={"ttl": 60})
    engineer.write_data(f"sys/leases/revoke/{key['lease_id']}", data={})
    eventually(lambda: not stack.works(key["data"]["api_key"]), what="the end of the key")

    # The support desk: the key as it is, without parameters.
    assert desk.read(f"{MOUNT}/creds/customer-service")["lease_duration"] == 600
    refused(desk.write_data, f"{MOUNT}/creds/customer-service", data={"ttl": "20m"})
    theirs = desk.read(f"{MOUNT}/creds/customer-service")
    refused(engineer.write_data, f"sys/leases/revoke/{theirs['lease_id']}", data={})
    assert stack.works(theirs["data"]["api_key"])

    # Analytics: only the TTLs that a run takes.
    assert analytics.write_data(f"{MOUNT}/creds/analytics", data={"ttl": "15m"})["lease_duration"] == 900
    refused(analytics.write_data, f"{MOUNT}/creds/analytics", data={"ttl": "50m"})

    # The administrator: limits, never keys.
    admin.write_data(f"{MOUNT}/roles/ads.chat", data={**LIMITS, "ttl": 300})
    refused(admin.read, f"{MOUNT}/creds/ads.chat")
    admin.write_data(
        f"{MOUNT}/tidy", data={"apply": True, "plan": admin.read(f"{MOUNT}/tidy")["data"]["plan"]}
    )
    refused(admin.write_data, f"{MOUNT}/tidy", data={"apply": True, "force": True})
    refused(admin.write_data, f"{MOUNT}/tidy", data={"accept_restored": True, "plan": "x"})
    refused(admin.sys.create_or_update_acl_policy, "mine", 'path "*" { capabilities = ["read"] }')
    refused(admin.auth.approle.generate_secret_id, "analytics")

    # The auditor: everything is to be seen, a key is not.
    assert "search.chat" in auditor.list(f"{MOUNT}/roles")["data"]["keys"]
    assert "management_key" not in auditor.read(f"{MOUNT}/config")["data"]
    assert "plan" in auditor.read(f"{MOUNT}/tidy")["data"]
    refused(auditor.write_data, f"{MOUNT}/tidy", data={"apply": True})
    refused(auditor.read, f"{MOUNT}/creds/search.chat")
    refused(auditor.delete, f"{MOUNT}/roles/search.chat")

    # Who answers when a key leaks: whose it was and its end, but no key. To the auditor that is not told.
    leaked = analytics.read(f"{MOUNT}/creds/analytics")
    fingerprint = hashlib.sha256(leaked["data"]["api_key"].encode()).hexdigest()
    for nobody in (auditor, admin, engineer, logins["rotation-bot"]):
        refused(nobody.write_data, f"{MOUNT}/leak", data={"fingerprint": fingerprint})
    for nobody in (auditor, engineer, logins["rotation-bot"]):
        refused(nobody.write_data, f"{MOUNT}/revoke", data={"role": "analytics", "apply": True})
    duty = logins["security-engineer"]
    found = duty.write_data(f"{MOUNT}/leak", data={"fingerprint": fingerprint, "revoke": True})["data"]
    assert found["lease_info"][leaked["lease_id"]]["login_role"] == "analytics"
    assert not stack.works(leaked["data"]["api_key"])
    refused(duty.read, f"{MOUNT}/creds/analytics")
    for one in (duty, admin, logins["break-glass"]):
        assert (
            one.write_data(f"{MOUNT}/revoke", data={"approle": "analytics", "apply": True})["data"]["failed"]
            == 0
        )

    # Break-glass: all at once, with force where it must be.
    logins["break-glass"].write_data(f"{MOUNT}/tidy", data={"apply": True, "force": True})
    logins["break-glass"].sys.revoke_prefix(f"{MOUNT}/creds/customer-service")
    eventually(lambda: not stack.works(theirs["data"]["api_key"]), what="the end of the key")
    refused(logins["break-glass"].read, f"{MOUNT}/creds/customer-service")
    refused(logins["rotation-bot"].read, f"{MOUNT}/creds/analytics")
    logins["rotation-bot"].sys.revoke_prefix(f"{MOUNT}/creds/analytics")
