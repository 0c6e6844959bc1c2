"""Out of distribution: requests in other words about pictures of another renderer, as a user makes them.

`phrasings` and `settings` are all that it is made of, as plain data; `split` gives their hashes, by which
training data is kept apart; `asking` has the channels, `*_cases` the requests of each kind, `scoring` and
`reading` the judges, `suite` the table.
"""

from unified.eval.suites.ood.suite import ood

__all__ = ["ood"]
