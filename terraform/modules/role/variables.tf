variable "mount" {
  type        = string
  description = "Where the engine is mounted: the output `path` of the module `engine`."
  nullable    = false

  validation {
    condition     = can(regex("^[^/\\s](.*[^/\\s])?$", var.mount))
    error_message = "mount must be the engine's path without slashes at the ends, such as \"ai-keys\"."
  }
}

variable "name" {
  type        = string
  description = "Name of the role."
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$", var.name)) && length(var.name) <= 128
    error_message = "name must have 1 to 128 letters, digits, underscores, dots and dashes, and begin and end with none of the last two."
  }
  validation {
    condition     = !can(regex("^aikeys-[0-9a-f]{16}$", var.name)) && !strcontains(var.name, "..")
    error_message = "name must not be aikeys-<16 hex digits>, which is reserved, and must not hold two dots in a row."
  }
}

variable "ttl" {
  type        = number
  description = "Seconds that a key lives unless renewed. 0: the mount's default."
  default     = 0
  nullable    = false

  validation {
    condition     = var.ttl >= 0 && floor(var.ttl) == var.ttl
    error_message = "ttl must be a whole number of seconds; 0 means the mount's default."
  }
}

variable "max_ttl" {
  type        = number
  description = "Seconds that a key lives at most, renewals included. 0: the mount's maximum."
  default     = 0
  nullable    = false

  validation {
    condition     = var.max_ttl >= 0 && floor(var.max_ttl) == var.max_ttl
    error_message = "max_ttl must be a whole number of seconds; 0 means the mount's maximum."
  }
  validation {
    condition     = var.max_ttl == 0 || var.ttl <= var.max_ttl
    error_message = "max_ttl must not be less than ttl."
  }
}

variable "permissions" {
  type        = list(string)
  description = "What a key may be used for, such as `chat`. Empty: the relay's default."
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for item in var.permissions : can(regex("^[^\\s,]+$", item))])
    error_message = "permissions must be names without spaces and commas, one to an element, such as [\"chat\", \"embeddings\"]."
  }
}

variable "allowed_models" {
  type        = list(string)
  description = "Models that a key may call; a name may end in `*`. Empty: every model."
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for item in var.allowed_models : can(regex("^[^\\s,*]+\\*?$", item))])
    error_message = "allowed_models must be model names without spaces and commas, one to an element; only the last character may be a *."
  }
}

variable "rate_limit" {
  type        = number
  description = "Requests per minute that a key may make. 0: the relay's default."
  default     = 0
  nullable    = false

  validation {
    condition     = var.rate_limit >= 0 && floor(var.rate_limit) == var.rate_limit
    error_message = "rate_limit must be a whole number of requests per minute; 0 means the relay's default."
  }
}

variable "max_tpm" {
  type        = number
  description = "Tokens per minute that a key may use. 0: the relay's default."
  default     = 0
  nullable    = false

  validation {
    condition     = var.max_tpm >= 0 && floor(var.max_tpm) == var.max_tpm
    error_message = "max_tpm must be a whole number of tokens per minute; 0 means the relay's default."
  }
}

variable "budget" {
  type = object({
    limit    = string
    currency = optional(string, "USD")
    period   = optional(string, "total")
  })
  description = "Money that a key may spend: `limit` is a decimal text, `period` total, day or month. Null: no limit."
  default     = null

  validation {
    condition     = var.budget == null || try(can(regex("^[0-9]{1,12}(\\.[0-9]{1,6})?$", var.budget.limit)) && tonumber(var.budget.limit) > 0, false)
    error_message = "budget.limit must be a positive decimal with at most 12 digits before and 6 after the point, such as \"5.00\"."
  }
  validation {
    condition     = var.budget == null || can(regex("^[A-Z]{3}$", var.budget.currency))
    error_message = "budget.currency must be three capital letters, such as USD."
  }
  validation {
    condition     = var.budget == null || try(contains(["total", "day", "month"], var.budget.period), false)
    error_message = "budget.period must be \"total\", \"day\" or \"month\"."
  }
}

variable "team_id" {
  type        = string
  description = "Team at the relay that keys belong to."
  default     = ""
  nullable    = false
}

variable "metadata" {
  type        = map(string)
  description = "Pairs that the relay keeps with every key of this role, at most ten."
  default     = {}
  nullable    = false

  validation {
    condition     = length(var.metadata) <= 10 && alltrue([for key, value in var.metadata : length(key) <= 64 && length(value) <= 256])
    error_message = "metadata may hold at most 10 pairs, with keys of at most 64 and values of at most 256 characters."
  }
  validation {
    condition     = !anytrue([for key, value in var.metadata : startswith(key, "aikeys_")])
    error_message = "metadata keys that begin with aikeys_ are the engine's own."
  }
}

variable "verify_revocation" {
  type        = bool
  description = "Try every revoked key at the relay until it is refused."
  default     = false
  nullable    = false
}

variable "max_leases" {
  type        = number
  description = "Leases that may exist at once, mints under way among them. 0: no limit."
  default     = 0
  nullable    = false

  validation {
    condition     = var.max_leases >= 0 && var.max_leases <= 100000 && floor(var.max_leases) == var.max_leases
    error_message = "max_leases must be a whole number from 1 to 100000; 0 means no limit."
  }
}

variable "issue_limit" {
  type        = number
  description = "Keys that may be issued within any `issue_period`, over all callers. 0: no limit."
  default     = 0
  nullable    = false

  validation {
    condition     = var.issue_limit >= 0 && var.issue_limit <= 10000 && floor(var.issue_limit) == var.issue_limit
    error_message = "issue_limit must be a whole number from 1 to 10000; 0 means no limit."
  }
}

variable "issue_period" {
  type        = number
  description = "Seconds that `issue_limit` is meant for."
  default     = 60
  nullable    = false

  validation {
    condition     = var.issue_period >= 1 && var.issue_period <= 2592000 && floor(var.issue_period) == var.issue_period
    error_message = "issue_period must be a whole number of seconds from 1 to 2592000 (30 days)."
  }
}

variable "policy_name" {
  type        = string
  description = "Name of the policy that lets its holder read the keys. Null: `<mount>-<name>-reader`."
  default     = null
}

variable "shipped_policy" {
  type        = string
  description = "The policy of this name from `policies/` instead of the plain one, such as `customer-service`, which goes with a role of that name. Null: the plain one."
  default     = null

  validation {
    condition     = var.shipped_policy == null || fileexists("${path.module}/../../../policies/${coalesce(var.shipped_policy, "-")}.hcl")
    error_message = "shipped_policy must be the name of a file in policies/ without its ending, such as \"customer-service\"."
  }
}

variable "extra_policies" {
  type        = list(string)
  description = "Further policies for those who log in here."
  default     = []
  nullable    = false
}

variable "login_name" {
  type        = string
  description = "Name of the auth methods' roles. Null: the role's own."
  default     = null
}

variable "approle" {
  type        = any
  description = "An AppRole for the app: see the module `login`. Null: none."
  default     = null
}

variable "kubernetes" {
  type        = any
  description = "A Kubernetes role for the app: see the module `login`. Null: none."
  default     = null
}

variable "jwt" {
  type        = any
  description = "A JWT role for the app: see the module `login`. Null: none."
  default     = null
}
