"""ACDiT, blockwise autoregression over conditional diffusion: network, sampling and reference vectors."""
