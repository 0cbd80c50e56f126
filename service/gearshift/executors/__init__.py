"""What runs artifacts: one adapter per backend, all held to one contract suite."""
