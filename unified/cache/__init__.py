"""The KV cache, its index, and the policies that decide which entries stay. Imports `layout`."""
