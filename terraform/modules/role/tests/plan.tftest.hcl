# What the role's module plans, and what it refuses. No server is asked: the provider is a mock.

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

run "refuses_a_policy_that_is_not_shipped" {
  command = plan

  variables {
    shipped_policy = "costumer-service"
  }

  expect_failures = [var.shipped_policy]
}

run "refuses_a_ttl_above_the_maximum" {
  command = plan

  variables {
    ttl     = 600
    max_ttl = 300
  }

  expect_failures = [var.max_ttl]
}

run "refuses_numbers_that_are_none" {
  command = plan

  variables {
    ttl        = -1
    rate_limit = 1.5
    max_tpm    = -5
  }

  expect_failures = [var.ttl, var.rate_limit, var.max_tpm]
}

run "refuses_a_reserved_name" {
  command = plan

  variables {
    name = "aikeys-0123456789abcdef"
  }

  expect_failures = [var.name]
}

run "refuses_a_path_as_a_name" {
  command = plan

  variables {
    name = "team/chatbot"
  }

  expect_failures = [var.name]
}

run "refuses_lists_in_one_text" {
  command = plan

  variables {
    permissions    = ["chat,embeddings"]
    allowed_models = ["gpt-*-mini"]
  }

  expect_failures = [var.permissions, var.allowed_models]
}

run "refuses_a_budget_of_nothing" {
  command = plan

  variables {
    budget = { limit = "0.00" }
  }

  expect_failures = [var.budget]
}

run "refuses_a_budget_in_words" {
  command = plan

  variables {
    budget = { limit = "5.00", currency = "dollars", period = "week" }
  }

  expect_failures = [var.budget]
}

run "refuses_metadata_of_the_engines_own" {
  command = plan

  variables {
    metadata = { aikeys_role = "other" }
  }

  expect_failures = [var.metadata]
}
