"""What each technique of efficient training and compression is worth, measured anew by a command.

A study is a function of (data or cache, report, sizes and seeds) to a result that holds plain
numbers; the result tells a `Story`, which becomes a page and a picture. What needs PyTorch is in
modules named `..._runs`, loaded when a study is carried out: results are shown without it.
"""
