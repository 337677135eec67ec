# What the login module plans. No server is asked: the provider is a mock. Wrong variables:
# tests/terraform/wrong_inputs.py.

mock_provider "vault" {}

variables {
  name     = "app"
  policies = ["app"]
}

run "makes_only_what_is_asked_for" {
  command = plan

  variables {
    approle = {}
  }

  assert {
    condition     = vault_approle_auth_backend_role.this[0].secret_id_num_uses == 1 && vault_approle_auth_backend_role.this[0].secret_id_ttl == 600
    error_message = "A secret id must work once and for ten minutes, unless told otherwise."
  }
  assert {
    condition     = length(vault_kubernetes_auth_backend_role.this) == 0 && length(vault_jwt_auth_backend_role.this) == 0
    error_message = "Logins that were not asked for must not be made."
  }
}
