"""TokenBridge, quantised channels predicted one by one: network, sampling and reference vectors."""
