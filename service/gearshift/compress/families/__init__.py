"""The families of models that can be compressed: their data, their networks, their training."""
