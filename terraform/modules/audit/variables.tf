variable "devices" {
  type = map(object({
    type        = string
    description = optional(string, "")
    local       = optional(bool, false)
    options     = map(string)
  }))
  description = "Audit devices by their paths. `options` are those of the device, such as `file_path`."
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for device in values(var.devices) : contains(["file", "socket", "syslog"], device.type)])
    error_message = "devices: type must be \"file\", \"socket\" or \"syslog\"."
  }
  validation {
    condition     = alltrue([for device in values(var.devices) : device.type != "file" || can(device.options["file_path"])])
    error_message = "devices: a device of type \"file\" needs options.file_path."
  }
  validation {
    condition     = alltrue([for device in values(var.devices) : lower(try(device.options["log_raw"], "false")) == "false"])
    error_message = "devices: options.log_raw must not be true: it would write every key and token into the log in clear."
  }
}

variable "headers" {
  type        = map(bool)
  description = "Request headers that are recorded, by name; true where the value is to be hashed."
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name, hashed in var.headers : hashed || !contains(["x-vault-token", "authorization"], lower(name))])
    error_message = "headers: X-Vault-Token and Authorization hold tokens, so they may only be recorded hashed (true)."
  }
}

variable "auditor" {
  type = object({
    policy_name   = optional(string, "auditor")
    mount         = optional(string, "ai-keys")
    approle_mount = optional(string, "approle")
  })
  description = "A policy for auditors of the engine at `mount` and of the AppRoles at `approle_mount`. Null: none."
  default     = null
}
