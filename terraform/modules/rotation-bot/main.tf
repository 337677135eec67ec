# The machine that rotates: it hands out new secret ids for the apps' AppRoles, wrapped, ends the leases of roles, and
# puts a new management key of the relay into the KV entry that the engine's config names. The engine reads that entry
# again when the relay rejects the key it has, so nobody writes the config.
#
# The policy is policies/rotation-bot.hcl, with its blocks about single AppRoles repeated for `apps`.

locals {
  shipped = replace(file("${path.module}/../../../policies/rotation-bot.hcl"), "ai-keys", var.mount)
  # "ml-engineer" stands for every app there.
  app_block   = "(?sU)(?:^|\\n)path \"auth/approle/role/[\\w-]+/.*\" \\{.*\\n\\}"
  app_example = "(?sU)(?:^|\\n)path \"auth/approle/role/ml-engineer/.*\" \\{.*\\n\\}"
  blocks      = regexall(local.app_example, local.shipped)
  rest        = replace(local.shipped, "/${local.app_block}/", "")

  policy = replace(
    join("\n", concat(
      [local.rest],
      [for app in var.apps : join("", [for block in local.blocks : replace(block, "ml-engineer", app)])],
      var.kv_name == null ? [] : [templatefile("${path.module}/management-key.hcl.tftpl", {
        mount    = var.mount
        kv_mount = var.kv_mount
        kv_name  = var.kv_name
      })],
    )),
    "auth/approle/", "auth/${var.apps_mount}/"
  )
}

resource "vault_policy" "bot" {
  name   = var.policy_name
  policy = local.policy

  lifecycle {
    precondition {
      condition     = length(local.blocks) > 0
      error_message = "policies/rotation-bot.hcl has no block about the AppRole \"ml-engineer\": this module and the policy are not of one release."
    }
  }
}

module "login" {
  source = "../login"

  name       = var.name
  policies   = [vault_policy.bot.name]
  approle    = var.approle
  kubernetes = var.kubernetes
  jwt        = var.jwt
}
