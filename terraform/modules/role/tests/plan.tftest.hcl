# What the role's module plans. No server is asked: the provider is a mock. Wrong variables:
# tests/terraform/wrong_inputs.py.

mock_provider "vault" {}

variables {
  mount = "ai-keys"
  name  = "chatbot"
}

run "writes_every_setting" {
  command = plan

  variables {
    budget  = { limit = "5.00" }
    approle = {}
  }

  assert {
    condition = jsondecode(vault_generic_endpoint.role.data_json) == {
      ttl               = 0
      max_ttl           = 0
      permissions       = []
      allowed_models    = []
      rate_limit        = 0
      max_tpm           = 0
      budget            = { limit = "5.00", currency = "USD", period = "total" }
      team_id           = ""
      metadata          = {}
      verify_revocation = false
      max_leases        = 0
      issue_limit       = 0
      issue_period      = 60
    }
    error_message = "What is not written cannot be seen to have been changed by hand."
  }
  assert {
    condition     = strcontains(vault_policy.reader.policy, "path \"ai-keys/creds/chatbot\"") && !strcontains(vault_policy.reader.policy, "creds/*")
    error_message = "The policy must reach this role's keys and no others."
  }
}

run "takes_a_shipped_policy_for_another_mount" {
  command = plan

  variables {
    mount          = "team-keys"
    name           = "customer-service"
    shipped_policy = "customer-service"
  }

  assert {
    condition     = strcontains(vault_policy.reader.policy, "team-keys/creds/customer-service") && !strcontains(vault_policy.reader.policy, "ai-keys/")
    error_message = "The shipped policy must speak of this mount."
  }
}
