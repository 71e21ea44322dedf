"""How far a network is from its kernel limit, what its kernel does, and what scaling law follows.

Floor by floor, each importing only those below:

4  experiments                      one file a command of `train.py`
3  training, tracking, reporting    the loop and its flows; the kernel tracker; figures and reports
2  scaling, landscape, robustness   exponents and regimes; geometry of networks; attacks, features
1  networks, tasks, theory, runs    architectures; targets; solvers; what is on disk
0  ntk, schema                      the empirical tangent kernel; the names of everything recorded
"""

__version__ = "0.1.0"
