"""What no policy can pass: an upper bound for any workload, also where memory is limited, and the
exact optimum for tiny ones."""
