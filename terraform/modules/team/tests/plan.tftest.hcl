# What the team's module plans. No server is asked: the provider is a mock. Wrong variables:
# tests/terraform/wrong_inputs.py.

mock_provider "vault" {}

variables {
  mount = "ai-keys"
  team  = "search"
  roles = { indexing = { ttl = 600, creds_per_minute = 30 }, answers = {} }
}

run "keeps_to_the_team" {
  command = plan

  assert {
    condition     = strcontains(vault_policy.people.policy, "path \"ai-keys/creds/search.*\"") && !strcontains(vault_policy.people.policy, "path \"ai-keys/creds/{{")
    error_message = "The people's policy must reach the team's roles."
  }
  assert {
    condition     = length(vault_quota_rate_limit.role) == 1 && output.roles["indexing"].policy_name == "ai-keys-search.indexing-reader"
    error_message = "Only the role that is bounded must get a quota, and each its policy."
  }
}
