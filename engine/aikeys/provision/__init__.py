"""`aikeys provision`: the policies and AppRoles of a folder, written into a live Vault through hvac."""
