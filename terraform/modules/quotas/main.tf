# How often keys may be asked for: a rate limit of the whole mount, and tighter ones of single roles. The Vault counts
# by client address and answers 429 beyond; nothing is minted then.

resource "vault_quota_rate_limit" "mount" {
  count = var.mount_limit == null ? 0 : 1

  name           = "${replace(var.mount, "/", "-")}-mount"
  path           = "${var.mount}/"
  rate           = var.mount_limit.rate
  interval       = var.mount_limit.interval
  block_interval = var.mount_limit.block_interval
}

resource "vault_quota_rate_limit" "role" {
  for_each = var.role_limits

  name           = "${replace(var.mount, "/", "-")}-creds-${each.key}"
  path           = "${var.mount}/creds/${each.key}"
  rate           = each.value.rate
  interval       = each.value.interval
  block_interval = each.value.block_interval
}
