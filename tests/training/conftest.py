"""These need PyTorch, which serving does not: `make models` runs them where models are made."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch_pruning") else ["test_*.py"]
