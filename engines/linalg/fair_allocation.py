"""Weights w > 0 with G w = w^(-1/α), by Newton's method on unit diagonal."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.errors import SolverError
from engines.linalg.balanced import split_balanced
from engines.linalg.dense import cholesky, product, solve_factored
from engines.linalg.gramian import check_finite_gramian, nearest_psd, unit_diagonal

Array = NDArray[np.float64]

# Added to the diagonal of the cosines for each row, about twice what `nearest_psd` may leave below
# zero there. Without it the weights of gradients that balance would grow without bound.
_RIDGE_PER_ROW = 2.0**-50
_FEWEST_ROWS = 10
# Newton steps before the path from α = 1 is taken, and on each part of that path, where slow
# progress is all there is to be had.
_STEPS = 100
_PATH_STEPS = 400
_PATH_FACTOR = 4.0
# Weights for an α beyond these differ from those for the nearer one by less than 1e-9 of a weight.
_ALPHAS = (1e-12, 1e12)
# The shortest share of a Newton step; shorter ones do not leave a cycle sooner.
_SHORTEST_STEP = 2.0**-5
# Equations are compared in units of their own rounding. Below the first share they hold; below the
# third they hold as well as float64 can tell once that many steps are not better; above the last
# they do not hold.
_FINISHED = 5e-17
_NEARLY = 1e-9
_STALLED = 2e-13
_PATIENCE = 3
_REFUSED = 1e-10
# Which gradients balance shows in less exact answers, and such gradients are why an answer stays
# this far from exact.
_ROUGHLY = 1e-6
_UNSETTLED = 1e-14
# A step is near when the curve is straight enough over it for a difference formula.
_NEAR = 0.5
_NEAR_STEPS = 3
_FAR_STEPS = 30
_FAR_TOLERANCE = 1e-9
# The share of its gain that the ridge has to make up for tells a gradient that balances others
# from one that does not (about 1e-15); on average over those that balance, it is 1.
_SUSPICIOUS = 0.03
_BALANCED = 0.3
_BALANCED_TOO = 1e-4
_LARGE_ALPHA = 8.0
# A combination that balances has a square of at most 1 / _BALANCED ridges.
_NULL_IN_RIDGES = 8.0
# Above this x there is nothing to weigh any more: e^700 is the end of float64.
_LARGEST_LOGARITHM = 700.0


class _Point(NamedTuple):
    """A point where s_i = t_i x_i^(-1/α) holds exactly; every field has shape [m].

    Attributes:
        z: log x.
        x: x.
        p: x^(-1/α).
        y: t x, the weights in units of gradients of length 1.
        s: t p, what each gradient should gain.
        rest: (C + ridge) y - s, which is 0 at the answer.
    """

    z: Array
    x: Array
    p: Array
    y: Array
    s: Array
    rest: Array


class _Outcome(NamedTuple):
    """The best point of Newton's method, and after how many steps it was found."""

    point: _Point
    steps: int
    residual: float


class _System:
    """C y = s with y_i = t_i x_i and s_i = t_i x_i^(-1/α), for one α."""

    def __init__(self, cosines: Array, norms: Array, alpha: float) -> None:
        m = len(norms)
        ridge = max(m, _FEWEST_ROWS) * _RIDGE_PER_ROW
        self.alpha = alpha
        self.beta = 1.0 / alpha
        self.cosines = cosines
        self.matrix = cosines + ridge * np.eye(m)
        self.magnitude = np.abs(self.matrix)
        self.ridge = ridge
        # Any common factor of t leaves x as it is.
        logarithms = (1.0 - alpha) / (1.0 + alpha) * np.log(norms)
        self.t = np.exp(logarithms - logarithms.max())

    def at(self, z: Array) -> _Point:
        """The point with log x = z."""
        x, p = np.exp(z), np.exp(-self.beta * z)
        y, s = self.t * x, self.t * p
        return _Point(z, x, p, y, s, product(self.matrix, y) - s)

    def start(self) -> _Point:
        """The best point with equal x."""
        curvature = float(self.t @ product(self.matrix, self.t))
        x = float(self.t @ self.t) / curvature
        return self.at(np.full(len(self.t), self.alpha / (1.0 + self.alpha) * np.log(x)))

    def residual(self, point: _Point) -> float:
        """The largest rest in units of its own rounding."""
        on_curve = (len(point.z) + np.abs(self.beta * point.z)) * point.s
        rounding = on_curve + product(self.magnitude, (1.0 + np.abs(point.z)) * point.y)
        return float((np.abs(point.rest) / rounding).max())

    def solve(self, start: _Point, limit: int) -> _Outcome:
        """Newton's method in the coordinates y - s.

        y and s of one objective lie on a decreasing curve, and y - s tells where on it: unlike y
        it has no bound, and unlike log y it does not stretch either end. A step that does not
        shrink the next one is shortened.

        Args:
            start: Any point.
            limit: Steps at most.

        Returns:
            The best point, which is not the answer where the residual is large.
        """
        point, best = start, _Outcome(start, 0, np.inf)
        for step in range(limit):
            residual = self.residual(point)
            if residual < best.residual:
                best = _Outcome(point, step, residual)
            stalled = best.residual <= _STALLED and step >= best.steps + _PATIENCE
            if residual <= _FINISHED or stalled or not np.isfinite(residual):
                break
            newton = _Newton(self, point)
            move = newton.move(point.rest)
            size, share = np.linalg.norm(move), 1.0
            while True:
                following = self.at(self.moved(point, share * move))
                if residual <= _NEARLY or share <= _SHORTEST_STEP:
                    break
                if np.linalg.norm(newton.move(following.rest)) <= (1.0 - share / 4.0) * size:
                    break
                share *= 0.5
            point = following
        return best

    def moved(self, point: _Point, move: Array) -> Array:
        """The logarithm of x where (y - s)/t is larger by `move`."""
        z = point.z + self._near(point, move)
        far = np.abs(move) * max(1.0, self.beta) > _NEAR * (point.x + self.beta * point.p)
        z[far] = self.located((point.x - point.p + move)[far])
        return np.minimum(z, _LARGEST_LOGARITHM)

    def _near(self, point: _Point, move: Array) -> Array:
        """The change of log x, by differences that do not cancel; good for small moves only."""
        change = move / (point.x + self.beta * point.p)
        limit = _NEAR / max(1.0, self.beta)
        change = np.clip(change, -limit, limit)
        for _ in range(_NEAR_STEPS):
            rise = point.x * np.expm1(change) - point.p * np.expm1(-self.beta * change)
            slope = point.x * np.exp(change) + self.beta * point.p * np.exp(-self.beta * change)
            change = change - (rise - move) / slope
        return change

    def located(self, differences: Array) -> Array:
        """The logarithm of x with x - x^(-1/α) = v, from that of the larger part."""
        v, beta = differences, self.beta
        positive = v > 0
        z = np.where(
            positive, np.log(np.maximum(v, 1.0)), -self.alpha * np.log(np.maximum(-v, 1.0))
        )
        for _ in range(_FAR_STEPS):
            x, p = np.exp(z), np.exp(-beta * z)
            first = np.where(positive, v + p, 1.0)
            second = np.where(positive, 1.0, x - v)
            change = np.where(
                positive,
                (np.log(first) - z) / (1.0 + beta * p / first),
                -(np.log(second) + beta * z) / (beta + x / second),
            )
            z = z + change
            if (np.abs(change) <= _FAR_TOLERANCE * np.abs(z)).all():
                break
        return z


class _Newton:
    """The linear system of one Newton step, factored."""

    def __init__(self, system: _System, point: _Point) -> None:
        self._system = system
        # Where x vanishes against p the equation is s = (C y)_i alone: its row is left to `move`.
        self._scale = 1.0 / np.sqrt(1.0 + system.beta * point.p / point.x)
        scaled = self._scale[:, None] * system.cosines * self._scale
        diagonal = 1.0 + (system.cosines.diagonal() + system.ridge - 1.0) * self._scale**2
        np.fill_diagonal(scaled, diagonal)
        self._factor, status = cholesky(scaled)
        if status != 0:
            raise SolverError(
                f"got LAPACK status {status} factoring a Newton step among {len(scaled)} "
                "gradients, expected a positive definite matrix, report the Gramian."
            )

    def move(self, rest: Array) -> Array:
        """The change of (y - s)/t that would make this rest 0 if the curves were straight."""
        system = self._system
        change = self._scale * solve_factored(self._factor, -self._scale * rest)
        return np.asarray((change - rest - product(system.matrix, change)) / system.t)


def fair_weights(gramian: Array, alpha: float, max_iters: int | None = None) -> Array:
    """Weights w > 0 with G w = w^(-1/α): each gradient gains what its weight calls for.

    They are the minimiser of ½wᵀGw - Σᵢψ(wᵢ) with ψ'(w) = w^(-1/α), a smooth convex problem. It is
    solved for gradients of length 1: with wᵢ = xᵢ|gᵢ|^(-2α/(1+α)), tᵢ = |gᵢ|^((1-α)/(1+α)) and the
    cosines C it reads C(t x) = t x^(-1/α), whatever the lengths are.

    Gradients of which a combination with positive weights is 0 have no solution: their weights
    grow without bound, and what they gain vanishes. The limit is returned, as weights that are
    finite and cancel in the direction, and the other gradients are weighed in the space
    orthogonal to these. A zero gradient has weight 0.

    Args:
        gramian: G = J Jᵀ, shape [m, m].
        alpha: α > 0, finite.
        max_iters: Newton steps at most; a limit below 100 gives way to 100.

    Returns:
        w, shape [m].

    Raises:
        NonFiniteGradientError: G has NaN or infinity.
        SolverError: The steps did not reach the answer; the message has their number and the
            residual.
        ValueError: G is not a Gramian.

    Source: arXiv 2402.15638, Equation 4. The variable y - s is the resolvent's of Minty, Duke
        Mathematical Journal 29, 1962.
    Cost: one Cholesky factorization (m³/3 multiply-adds) for each of about 6 steps, 30 near
        Pareto-stationary points.
    """
    check_finite_gramian(gramian)
    cosines, norms = unit_diagonal(gramian)
    weights = np.zeros(len(norms))
    rows = np.flatnonzero(norms > 0)
    limit = max(_STEPS, 0 if max_iters is None else max_iters)
    alpha = float(np.clip(alpha, *_ALPHAS))
    weights[rows] = _allocate(cosines[np.ix_(rows, rows)], norms[rows], alpha, limit)
    return weights


def _allocate(cosines: Array, norms: Array, alpha: float, limit: int) -> Array:
    """The same for gradients that are not zero, from their cosines and lengths."""
    if len(norms) == 0:
        return np.zeros(0)
    system = _System(nearest_psd(cosines), norms, alpha)
    # Where gradients balance, exactness is out of reach, and not needed either.
    outcome, steps = _search(system, norms, limit)
    point = outcome.point
    _require(system, outcome.residual, steps, _ROUGHLY)
    vanishing = np.zeros(len(norms))
    carried = (system.ridge * point.y >= _SUSPICIOUS * point.s).any()
    if carried or outcome.residual > _UNSETTLED:
        vanishing = _vanishing(system.cosines, limit)
    if not vanishing.any():
        _require(system, outcome.residual, steps, _REFUSED)
        return np.asarray(point.x * norms ** (-2.0 * alpha / (1.0 + alpha)))
    split = split_balanced(system.cosines, vanishing > 0, _NULL_IN_RIDGES * system.ridge)
    at, others = split.balanced, split.others
    combination = np.zeros(len(norms))
    combination[others] = norms[others] * _allocate(
        split.cosines, norms[others] * split.sines, alpha, limit
    )
    # As large as the weights of gradients of these lengths are where nothing vanishes.
    natural = norms ** ((1.0 - alpha) / (1.0 + alpha))
    vanishing = vanishing / (vanishing / natural).max()
    combination[at] = split.cancelling(vanishing[at], combination[others])
    return combination / norms


def _vanishing(cosines: Array, limit: int) -> Array:
    """The combination of unit gradients that is 0, with as many positive weights as there are.

    For a large α all gradients should gain about the same, so that it is the ridge, and with it
    the weights, that makes up for what those in balance cannot gain.

    Args:
        cosines: C, shape [m, m].
        limit: Newton steps at most.

    Returns:
        Weights, shape [m], 0 for the other gradients; all 0 where nothing balances.
    """
    ones = np.ones(len(cosines))
    system = _System(cosines, ones, _LARGE_ALPHA)
    outcome, steps = _search(system, ones, limit)
    _require(system, outcome.residual, steps, _ROUGHLY)
    point = outcome.point
    carried = system.ridge * point.y
    some = carried >= _BALANCED_TOO * point.s
    gained = float(point.s[some] @ point.y[some])
    balanced = some.any() and float(carried[some] @ point.y[some]) >= _BALANCED * gained
    return np.where(some, point.y / point.y.max(), 0.0) if balanced else 0.0 * ones


def _require(system: _System, residual: float, steps: int, allowed: float) -> None:
    """Refuse what is farther from the answer than allowed."""
    if not residual <= allowed:
        raise SolverError(
            f"got a residual of {residual:.1e} after {steps} Newton steps for {len(system.t)} "
            f"gradients and alpha={system.alpha}, expected at most {allowed:.0e}, "
            "raise max_iters or report the Gramian."
        )


def _search(system: _System, norms: Array, limit: int) -> tuple[_Outcome, int]:
    """Where the search ended, and the steps it took.

    For α = 1 the function is self-concordant; far from it, steps may go round in circles where
    the cosines are close to singular. The answers for neighbouring α are close in y - s.
    """
    # The ends of float64 stand for 0 and infinity here; what is not a number has no residual.
    with np.errstate(all="ignore"):
        return _followed(system, norms, limit)


def _followed(system: _System, norms: Array, limit: int) -> tuple[_Outcome, int]:
    """Straight at first, then by way of α = 1."""
    outcome = system.solve(system.start(), limit)
    steps = outcome.steps
    if not outcome.residual <= _REFUSED:
        part = _System(system.cosines, norms, 1.0)
        limit = max(limit, _PATH_STEPS)
        outcome = part.solve(part.start(), limit)
        steps += outcome.steps
        while part.alpha != system.alpha:
            ahead = np.clip(system.alpha, part.alpha / _PATH_FACTOR, part.alpha * _PATH_FACTOR)
            following = _System(system.cosines, norms, float(ahead))
            start = (outcome.point.y - outcome.point.s) / following.t
            part = following
            outcome = part.solve(part.at(part.located(start)), limit)
            steps += outcome.steps
    return outcome, steps
