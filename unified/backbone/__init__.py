"""The decoder: the loop over the layers, attention back-ends, pretrained weights. Imports `layout` and
`cache`."""
