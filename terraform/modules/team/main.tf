# What one team gets: its roles, each with its reader policy and its logins, and a policy for its people, which covers
# the keys of all of the team's roles and nothing of any other team's.
#
# The roles are named "<team>.<purpose>", as policies/ml-engineer.hcl has it, from which the people's policy is made.

locals {
  policy_name = coalesce(var.policy_name, "${replace(var.mount, "/", "-")}-team-${var.team}")

  # The shipped policy finds the team in the metadata of whoever logs in; here it is known, and groups can carry it.
  people = replace(
    replace(file("${path.module}/../../../policies/ml-engineer.hcl"), "{{identity.entity.metadata.team}}", var.team),
    "ai-keys", var.mount
  )
}

module "role" {
  source   = "../role"
  for_each = var.roles

  mount             = var.mount
  name              = "${var.team}.${each.key}"
  ttl               = each.value.ttl
  max_ttl           = each.value.max_ttl
  permissions       = each.value.permissions
  allowed_models    = each.value.allowed_models
  rate_limit        = each.value.rate_limit
  max_tpm           = each.value.max_tpm
  budget            = each.value.budget
  team_id           = coalesce(var.team_id, var.team)
  metadata          = merge({ team = var.team }, each.value.metadata)
  verify_revocation = each.value.verify_revocation
  max_leases        = each.value.max_leases
  issue_limit       = each.value.issue_limit
  issue_period      = each.value.issue_period
  approle           = each.value.approle
  kubernetes        = each.value.kubernetes
  jwt               = each.value.jwt
}

resource "vault_policy" "people" {
  name   = local.policy_name
  policy = local.people
}

resource "vault_quota_rate_limit" "role" {
  for_each = { for key, role in var.roles : key => role.creds_per_minute if role.creds_per_minute != null }

  name     = "${replace(var.mount, "/", "-")}-${var.team}.${each.key}"
  path     = module.role[each.key].creds_path
  rate     = each.value
  interval = 60
}
