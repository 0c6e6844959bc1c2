"""xAR, next-unit prediction by flow matching on noisy context: network, sampling and reference vectors."""
