# Audit devices of the Vault, and the request headers that they record. Requests for keys are recorded like all others,
# with the keys hashed.
#
# OpenBao refuses to have audit devices made over its API ("cannot enable audit device via API; use declarative,
# config-based audit device management instead"): there, leave `devices` empty and declare them in the server's
# configuration. The headers work with both.
#
# HashiCorp Vault answers 500 to requests that run at the moment when a device is enabled, although it carries them out,
# and Terraform then finds things that it does not know of. So have this module applied after all else, with
# `depends_on`, as below, and two new devices one after the other, with `terraform apply -parallelism=1`.
#
# With `auditor`, the policy policies/auditor.hcl as well: it reads how everything is set up, and no key.

resource "vault_audit" "this" {
  for_each = var.devices

  path        = each.key
  type        = each.value.type
  description = each.value.description
  local       = each.value.local
  options     = each.value.options
}

resource "vault_audit_request_header" "this" {
  for_each = var.headers

  name = each.key
  hmac = each.value

  depends_on = [vault_audit.this]
}

resource "vault_policy" "auditor" {
  count = var.auditor == null ? 0 : 1

  name = var.auditor.policy_name
  policy = replace(
    replace(file("${path.module}/../../../policies/auditor.hcl"), "ai-keys", var.auditor.mount),
    "auth/approle/", "auth/${var.auditor.approle_mount}/"
  )

  depends_on = [vault_audit.this]
}
