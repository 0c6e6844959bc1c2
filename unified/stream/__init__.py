"""The stream: the vocabulary, the grammar of ids, messages <-> ids, pixels and actions <-> ids. Imports
`orders` and `tokenizers`."""
