"""MAR, masked autoregression over continuous tokens: network, decoding and reference vectors."""
