"""Virtual-time runs: any policy with the core's contract, driven through a workload file.

What a simulation shows of `gearshift` is what the server does, because the core is the
same code. Beside it stand baselines from the literature and upper bounds that no policy
can pass.
"""
