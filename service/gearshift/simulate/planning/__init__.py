"""Capacity planning: how many pods of which kind hold the goals, and what is resident on them.

Pure: a demand bound excludes what no scheduler could do, the core as served is simulated for the
rest, and the cheapest answer that holds is returned together with what makes a cheaper one fail.
"""
