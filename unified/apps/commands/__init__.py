"""The commands of `unified`, one function each: options in, exit status out."""
