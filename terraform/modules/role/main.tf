# A role of the engine, the policy that lets an app read its keys, and how that app logs in.
#
# The relay enforces what the role says of a key, the engine how many keys there are; a role that asks for what its relay cannot do is refused at apply, with the
# reason. Every setting is written every time, so that a change made by hand is seen and undone.

locals {
  policy_name = coalesce(var.policy_name, "${replace(var.mount, "/", "-")}-${var.name}-reader")

  # Of the policies in policies/, which speak of the mount "ai-keys", or what reading this one role takes.
  policy = (
    var.shipped_policy == null
    ? templatefile("${path.module}/reader.hcl.tftpl", { mount = var.mount, role = var.name })
    : replace(file("${path.module}/../../../policies/${coalesce(var.shipped_policy, "-")}.hcl"), "ai-keys", var.mount)
  )
}

resource "vault_generic_endpoint" "role" {
  path = "${var.mount}/roles/${var.name}"
  data_json = jsonencode({
    ttl               = var.ttl
    max_ttl           = var.max_ttl
    permissions       = var.permissions
    allowed_models    = var.allowed_models
    rate_limit        = var.rate_limit
    max_tpm           = var.max_tpm
    budget            = jsondecode(var.budget == null ? "\"\"" : jsonencode(var.budget))
    team_id           = var.team_id
    metadata          = var.metadata
    verify_revocation = var.verify_revocation
    max_leases        = var.max_leases
    issue_limit       = var.issue_limit
    issue_period      = var.issue_period
  })
}

resource "vault_policy" "reader" {
  name   = local.policy_name
  policy = local.policy
}

module "login" {
  source = "../login"

  name       = coalesce(var.login_name, var.name)
  policies   = concat([vault_policy.reader.name], var.extra_policies)
  approle    = var.approle
  kubernetes = var.kubernetes
  jwt        = var.jwt
}
