"""A gearshift in front of other servers, which are killed, frozen, and slow at random."""
