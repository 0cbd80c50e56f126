"""gearshift beside the servers that people use: same models, same client, interleaved rounds.

`make bench-peers` writes docs/results/peers.md, `make bench-peers-load` peers-load.md.
"""
