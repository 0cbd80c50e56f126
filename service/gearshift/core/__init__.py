"""The pure core: decides what runs where, and when. Standard library only, no clock, no I/O."""
