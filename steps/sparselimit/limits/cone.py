"""The sublevel set seen from a pruned point: the cone it fills, and who meets it.

In the basis of the Hessian's eigenvectors the set is {v : sum_i lam_i (v_i - c_i)^2 <= 2 eps}, the
pruned point the origin, the trained weights c. A direction u meets the set if, at the best length,
|t u - c|_H^2 = |c|_H^2 - <u, c>_H^2 / |u|_H^2 is at most 2 eps. Directions that do form a quadratic
cone; one nappe of

    u^T M u <= 0   with   M = (|c|_H^2 - 2 eps) H - (H c)(H c)^T.

A random subspace of dimension k meets a convex cone C, with a transition that sharpens as the
dimension D grows, if k + delta(C) > D. The statistical dimension delta(C) = E |P_C g|^2, g standard
normal and P_C the projection onto C, is between 0 and D (Amelunxen, Lotz, McCoy and Tropp, 2014).
"""

from dataclasses import dataclass

import numpy as np

from sparselimit.curvature.quadrature import Floats
from sparselimit.errors import InputError

_HALVINGS = 60
_BELOW_POLE = 1 - 1e-15
_FLAT = 1e-13  # an eigenvalue of M below this share of the largest is zero


@dataclass(frozen=True, eq=False)
class Cone:
    """The cone of a sublevel set that does not hold the origin, by the eigenvectors of M.

    vectors: [D, D], columns.  curvatures: [D] eigenvalues of M, ascending: the first is negative,
    all others are not. The first vector points into the cone.
    """

    vectors: Floats
    curvatures: Floats

    @classmethod
    def of(cls, eigenvalues: Floats, offset: Floats, epsilon: float) -> "Cone":
        """eigenvalues: [D] of the Hessian, not negative; offset: [D] in its eigenvectors.

        Raises InputError when the origin is in the set: then every direction meets it.
        """
        stiff = eigenvalues * offset
        outside = float(stiff @ offset) - 2 * epsilon
        if outside <= 0:
            raise InputError("the pruned point is within the tolerance: there is no cone")
        curvatures, vectors = np.linalg.eigh(
            np.diag(outside * eigenvalues) - np.outer(stiff, stiff)
        )
        vectors[:, 0] *= np.sign(vectors[:, 0] @ offset)
        return cls(vectors, curvatures)

    def contains(self, directions: Floats) -> np.ndarray:
        """Which of the directions [n, D] meet the set: bool [n]."""
        parts = directions @ self.vectors
        return np.asarray((parts**2 @ self.curvatures <= 0) & (parts[:, 0] >= 0))

    def projected(self, points: Floats) -> Floats:
        """The nearest points of the cone: [n, D] to [n, D].

        Outside the cone the minimum of |u - g|^2 under u^T M u = 0 is u = (1 + nu M)^-1 g. On the
        side of this nappe nu is below the pole -1/m of the negative eigenvalue m, on the other side
        above it; if there is no root there, the nearest point is the tip. With nu = -theta/m on the
        one side and -1/(theta m) on the other, u^T M u falls from positive to negative as theta
        grows from 0 to 1. Directions in which M is flat belong to the cone and stay as they are.
        """
        parts = points @ self.vectors
        flat = np.abs(self.curvatures) <= _FLAT * np.abs(self.curvatures).max()
        relative = np.where(flat, 0, self.curvatures / -self.curvatures[0])  # the first is -1
        ahead = parts[:, :1] >= 0
        low, high = np.zeros_like(ahead, dtype=float), np.ones_like(ahead, dtype=float)

        def shrunk(theta: Floats) -> Floats:
            nu = np.where(ahead, theta, 1 / theta)
            return parts / (1 + nu * relative)

        for _ in range(_HALVINGS):
            middle = np.minimum((low + high) / 2, _BELOW_POLE)
            beyond = shrunk(middle) ** 2 @ relative[:, None] < 0
            low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
        # Behind, where there is no root, theta has fallen to zero, and all but flat parts vanish.
        nearest = shrunk(np.minimum((low + high) / 2, _BELOW_POLE))
        inside = ahead & (parts**2 @ relative[:, None] <= 0)
        return np.asarray(np.where(inside, parts, nearest) @ self.vectors.T)


def statistical_dimensions(
    eigenvalues: Floats, offset: Floats, epsilon: float, points: Floats
) -> Floats:
    """|P_C g|^2 for points g [n, D], whose mean estimates delta(C); D inside the set: [n]."""
    if float(eigenvalues @ offset**2) <= 2 * epsilon:
        return np.full(len(points), float(len(eigenvalues)))
    return np.square(Cone.of(eigenvalues, offset, epsilon).projected(points)).sum(axis=1)
