"""Keys and values of what was read, and the policies that say what stays. Imports `layout`."""
