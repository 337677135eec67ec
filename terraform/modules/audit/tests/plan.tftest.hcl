# What the audit module plans. No server is asked: the provider is a mock. Wrong variables:
# tests/terraform/wrong_inputs.py.

mock_provider "vault" {}

run "makes_devices_headers_and_the_auditors_policy" {
  command = plan

  variables {
    devices = { file = { type = "file", options = { file_path = "/var/log/vault/audit.log" } } }
    headers = { "X-Request-Id" = false, "Authorization" = true }
    auditor = { mount = "team-keys" }
  }

  assert {
    condition     = length(vault_audit.this) == 1 && length(vault_audit_request_header.this) == 2
    error_message = "Device and headers must be made."
  }
  assert {
    condition     = strcontains(vault_policy.auditor[0].policy, "team-keys/roles/") && !strcontains(vault_policy.auditor[0].policy, "/creds/")
    error_message = "Auditors must see the roles and no keys."
  }
}
