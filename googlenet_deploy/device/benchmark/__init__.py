"""The benchmark: latency by scope, throughput, memory and energy, with the state of the machine."""
