"""What is particular to one family of models: its data, its network, its metrics, its training."""
