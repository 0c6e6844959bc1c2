"""Hi-MAR, two-phase masked autoregression with low-resolution pivots: network, sampling, reference
vectors."""
