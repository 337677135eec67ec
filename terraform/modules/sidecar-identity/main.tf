# What the aikeys sidecar itself logs in with at the Vault behind it: its policy and an AppRole or a Kubernetes role.
#
# Apply it against that Vault directly, before the sidecar runs. Nothing secret comes out of it: have the secret id made
# where the sidecar runs, wrapped.

locals {
  shipped = file("${path.module}/../../../policies/sidecar.hcl")
  # The shipped policy speaks of one mount, "ai-keys": its blocks are repeated for every mount there is to be.
  blocks = regexall("(?sU)(?:^|\\n)path \"[^\"]*ai-keys[^\"]*\" \\{.*\\n\\}", local.shipped)
  rest   = replace(local.shipped, "/(?sU)(?:^|\\n)path \"[^\"]*ai-keys[^\"]*\" \\{.*\\n\\}/", "")
  policy = join("\n", concat(
    [local.rest],
    [for mount in var.mounts : join("", [for block in local.blocks : replace(block, "ai-keys", mount)])],
    [for key_path in var.management_key_paths : <<-EOT

      # The relay's management key, which a config names.
      path "${key_path}" {
        capabilities = ["read"]
      }
    EOT
    ],
  ))
}

resource "vault_policy" "sidecar" {
  name   = var.policy_name
  policy = local.policy

  lifecycle {
    precondition {
      condition     = length(local.blocks) > 0
      error_message = "policies/sidecar.hcl has no block about the mount \"ai-keys\": this module and the policy are not of one release."
    }
  }
}

module "login" {
  source = "../login"

  name       = var.name
  policies   = [vault_policy.sidecar.name]
  approle    = var.approle
  kubernetes = var.kubernetes
}
