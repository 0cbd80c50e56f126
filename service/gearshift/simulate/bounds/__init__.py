"""What no policy can pass: an upper bound for any workload, the exact optimum for tiny ones."""
