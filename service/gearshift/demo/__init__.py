"""A stock client with real rows: sends them, judges the answers, tells what happened."""
