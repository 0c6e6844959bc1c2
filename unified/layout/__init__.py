"""What follows from the ids alone: the attention rule, positions, targets, packing, patch merging. Imports
`stream` and `orders`."""
