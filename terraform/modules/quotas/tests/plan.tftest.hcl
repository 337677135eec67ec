# What the quotas' module plans. No server is asked: the provider is a mock. Wrong variables:
# tests/terraform/wrong_inputs.py.

mock_provider "vault" {}

variables {
  mount = "ai-keys"
}

run "bounds_the_mount_and_single_roles" {
  command = plan

  variables {
    mount_limit = { rate = 100 }
    role_limits = { chatbot = { rate = 30 } }
  }

  assert {
    condition     = vault_quota_rate_limit.mount[0].path == "ai-keys/" && vault_quota_rate_limit.role["chatbot"].path == "ai-keys/creds/chatbot"
    error_message = "The quotas must be where the requests go."
  }
}
