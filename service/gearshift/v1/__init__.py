"""gearshift.v1 as generated from protos/ by `make protos`: messages and stubs."""
