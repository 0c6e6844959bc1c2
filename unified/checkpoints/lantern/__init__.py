"""LANTERN and LANTERN++ as released: verification of draft trees, and the EAGLE-style drafter.

Source: jadohu/LANTERN, arXiv 2410.03355 and 2502.06352. `unified/decoding/strategies/lantern.py` is the
strategy for sessions, with the residual of the papers' formula in place of the release's.
"""
