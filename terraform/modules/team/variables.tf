variable "mount" {
  type        = string
  description = "Where the engine is mounted: the output `path` of the module `engine`."
  nullable    = false

  validation {
    condition     = can(regex("^[^/\\s](.*[^/\\s])?$", var.mount))
    error_message = "mount must be the engine's path without slashes at the ends, such as \"ai-keys\"."
  }
}

variable "team" {
  type        = string
  description = "The team's name; the names of its roles begin with it."
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}[a-z0-9]$", var.team))
    error_message = "team must have 2 to 32 lower-case letters, digits and dashes, beginning with a letter."
  }
}

variable "team_id" {
  type        = string
  description = "The team's id at the relay. Null: its name."
  default     = null
}

variable "roles" {
  type = map(object({
    ttl            = optional(number, 0)
    max_ttl        = optional(number, 0)
    permissions    = optional(list(string), [])
    allowed_models = optional(list(string), [])
    rate_limit     = optional(number, 0)
    max_tpm        = optional(number, 0)
    budget = optional(object({
      limit    = string
      currency = optional(string, "USD")
      period   = optional(string, "total")
    }))
    metadata          = optional(map(string), {})
    verify_revocation = optional(bool, false)
    max_leases        = optional(number, 0)
    issue_limit       = optional(number, 0)
    issue_period      = optional(number, 60)
    creds_per_minute  = optional(number)
    approle = optional(object({
      mount                 = optional(string, "approle")
      name                  = optional(string)
      token_ttl             = optional(number, 1200)
      token_max_ttl         = optional(number, 3600)
      token_period          = optional(number)
      token_bound_cidrs     = optional(list(string), [])
      token_num_uses        = optional(number)
      secret_id_ttl         = optional(number, 600)
      secret_id_num_uses    = optional(number, 1)
      secret_id_bound_cidrs = optional(list(string), [])
    }))
    kubernetes = optional(object({
      mount            = optional(string, "kubernetes")
      name             = optional(string)
      service_accounts = list(string)
      namespaces       = list(string)
      audience         = optional(string)
      token_ttl        = optional(number, 1200)
      token_max_ttl    = optional(number, 3600)
      token_period     = optional(number)
    }))
    jwt = optional(object({
      mount         = optional(string, "jwt")
      name          = optional(string)
      user_claim    = optional(string, "sub")
      audiences     = list(string)
      subject       = optional(string)
      claims        = optional(map(string), {})
      claims_type   = optional(string, "string")
      token_ttl     = optional(number, 1200)
      token_max_ttl = optional(number, 3600)
      token_period  = optional(number)
    }))
  }))
  description = "The team's roles by the name that follows the team's, with the settings of the module `role`. `creds_per_minute` bounds how often keys may be asked for, each client address for itself."
  nullable    = false

  validation {
    condition     = length(var.roles) > 0 && alltrue([for name in keys(var.roles) : can(regex("^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", name))])
    error_message = "roles must hold at least one role, named with lower-case letters, digits and dashes."
  }
  validation {
    condition     = alltrue([for role in values(var.roles) : role.creds_per_minute == null || try(role.creds_per_minute > 0, false)])
    error_message = "roles: creds_per_minute must be greater than 0, or absent for no bound."
  }
}

variable "policy_name" {
  type        = string
  description = "Name of the policy for the team's people. Null: `<mount>-team-<team>`."
  default     = null
}
