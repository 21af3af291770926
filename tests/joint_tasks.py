"""Tasks that tests of joint stages learn together."""

from dataclasses import replace

import numpy as np

import adaptik as ak

A, B = ak.tasks.hermite_pair(1, 2, 0.5, n_source=6, n_target=5, dimension=8, n_test=5)
A, B = replace(A, name="a"), replace(B, name="b")
OTHER = ak.Task(A.X[2:], B.y[:4], B.X_test, B.y_test, name="other")  # inputs that A has too
CODES = ak.Task(B.X, np.eye(2)[[0, 1, 1, 0, 1]], name="codes")
SIGNS = ak.Task(A.X, np.sign(A.y), name="signs")
