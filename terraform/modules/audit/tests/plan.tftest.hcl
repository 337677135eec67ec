# What the audit module plans, and what it refuses. No server is asked: the provider is a mock.

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

run "refuses_a_log_in_clear" {
  command = plan

  variables {
    devices = { file = { type = "file", options = { file_path = "stdout", log_raw = "true" } } }
  }

  expect_failures = [var.devices]
}

run "refuses_a_file_without_a_path" {
  command = plan

  variables {
    devices = { file = { type = "file", options = {} } }
  }

  expect_failures = [var.devices]
}

run "refuses_tokens_in_clear" {
  command = plan

  variables {
    headers = { "X-Vault-Token" = false }
  }

  expect_failures = [var.headers]
}
