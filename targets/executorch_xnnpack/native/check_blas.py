"""numpy with `blas.cpp` against Python's whole numbers. Run where it is compiled: a difference ends the build."""

from typing import Any

import numpy as np


def main() -> None:
    """Multiply matrices and vectors of every layout. Raises `ArithmeticError` when a product is wrong."""
    whole = np.arange(24).reshape(4, 6) % 7 - 3
    for dtype in (np.float32, np.float64):
        a: Any = whole.astype(dtype)
        b = a[::-1]
        rows = ((a, a.T), (a, b.T), (a.T, b), (a[:, ::2], b[:, 1::2].T), (a[0], b[1]), (a[0, ::-1], a[1]))
        for one, other in (*rows, (a, b[0]), (b[0], a.T), (a.T, a[:, 0]), (a[:2].T, a[2:])):
            if not np.array_equal(one @ other, one.astype(object) @ other.astype(object)):
                raise ArithmeticError(f"native/blas.cpp multiplies wrongly: {one} @ {other}")
        if np.linalg.norm(a[0]) != np.sqrt(np.sum(a[0] * a[0])):
            raise ArithmeticError(f"native/blas.cpp measures wrongly: {a[0]}")


if __name__ == "__main__":
    main()
