variable "mount" {
  type        = string
  description = "Where the engine is mounted: the output `path` of the module `engine`. It must exist."
  nullable    = false

  validation {
    condition     = can(regex("^[^/\\s](.*[^/\\s])?$", var.mount))
    error_message = "mount must be the engine's path without slashes at the ends, such as \"ai-keys\"."
  }
}

variable "mount_limit" {
  type = object({
    rate           = number
    interval       = optional(number, 1)
    block_interval = optional(number, 0)
  })
  description = "Requests to the whole mount: at most `rate` in `interval` seconds; who passes that is refused for `block_interval` seconds more. Null: no limit."
  default     = null

  validation {
    condition     = var.mount_limit == null || try(var.mount_limit.rate > 0 && var.mount_limit.interval >= 1 && var.mount_limit.block_interval >= 0, false)
    error_message = "mount_limit: rate must be greater than 0, interval at least 1 and block_interval at least 0 seconds."
  }
}

variable "role_limits" {
  type = map(object({
    rate           = number
    interval       = optional(number, 60)
    block_interval = optional(number, 0)
  }))
  description = "Requests for the keys of single roles, by the role's name."
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for limit in values(var.role_limits) : limit.rate > 0 && limit.interval >= 1 && limit.block_interval >= 0])
    error_message = "role_limits: rate must be greater than 0, interval at least 1 and block_interval at least 0 seconds."
  }
}
