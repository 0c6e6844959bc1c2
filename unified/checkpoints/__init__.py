"""Published weights: loading them by their official names, and verifying them. Imports the core and
`tokenizers`."""
