# What the quotas' module plans, and what it refuses. No server is asked: the provider is a mock.

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

run "refuses_a_rate_of_nothing" {
  command = plan

  variables {
    mount_limit = { rate = 0 }
    role_limits = { chatbot = { rate = 1, interval = 0 } }
  }

  expect_failures = [var.mount_limit, var.role_limits]
}
