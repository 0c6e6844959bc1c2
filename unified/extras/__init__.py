"""What else a slot that is written reads or says: each a part, chosen in the configuration. Imports
`layout` and `orders`."""
