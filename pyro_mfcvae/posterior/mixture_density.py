"""The posterior density of a mixture of Gaussians, in coordinates that Hamiltonian Monte Carlo likes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pyro_mfcvae.priors.hyper import HyperPriors

MIN_WEIGHT = 1e-4  # of a component in the mixture that coordinates are centred on
LOG_2_PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Mixture:
    """A mixture of K Gaussians in D dimensions.

    Attributes:
        weights: shape (..., K).
        means: shape (..., K, D).
        covariances: variances (..., K, D), or covariance matrices (..., K, D, D).
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    @property
    def is_full(self) -> bool:
        """True if the covariances are matrices."""
        return self.covariances.ndim > self.means.ndim

    @property
    def scales(self) -> np.ndarray:
        """Standard deviations, shape (..., K, D)."""
        variances = np.diagonal(self.covariances, axis1=-2, axis2=-1) if self.is_full else self.covariances
        return np.asarray(np.sqrt(variances))

    def rescaled(self, shift: np.ndarray, scale: np.ndarray) -> Mixture:
        """The mixture of ``shift + scale * z``, both (D,)."""
        factor = scale[:, None] * scale if self.is_full else scale**2
        return Mixture(self.weights, shift + scale * self.means, factor * self.covariances)


class MixtureDensity:
    r"""Log-posterior of a mixture's parameters given an embedding, c summed out.

    .. math::
        \log p(\theta) + \sum_n \log \sum_k \pi_k \exp \ell_{nk}(\theta), \qquad
        \ell_{nk} = E_{q(z_n)} \log N(z_n; \mu_k, \Sigma_k)
                  = \log N(m_n; \mu_k, \Sigma_k) - \tfrac12 \mathrm{tr}(\Sigma_k^{-1} \mathrm{diag}\, v_n)

    With v = 0 it is the posterior given the points m. The parameters are functions of a vector u, around a
    reference mixture with covariances :math:`\hat L_k \hat L_k^\top`:

    .. math::
        \log\pi = \mathrm{const} + \log\hat\pi + \frac{B u_\pi}{\sqrt{N\hat\pi}}, \quad
        \mu_k = \hat\mu_k + M_k u_{\mu k}, \quad
        \Sigma_k = \hat L_k A_k A_k^\top \hat L_k^\top, \quad
        A_{k,dd} = e^{s_k u_{kdd}}, \quad A_{k,de} = t_k u_{kde} \; (d > e)

    M_k, s_k and t_k are the posterior's widths for :math:`N\hat\pi_k` data that are known to be of component
    k, and the columns of B are an orthonormal basis of the complement of :math:`\sqrt{\hat\pi}`, in which the
    Fisher information of the weights is the identity. So u is about standard normal, whatever the sizes,
    scales, positions and correlations of the components.

    It is in NumPy, with the gradient written out: for data of the usual size automatic differentiation
    would take most of the time.

    Args:
        points: m, shape (N, D), in units of the embedding's overall standard deviation, about centred.
        variances: v, shape (N, D).
        reference: the mixture that u = 0 is, but for weights below ``MIN_WEIGHT``.
        hyper_priors: hyper-priors of the parameters.
    """

    def __init__(
        self, points: np.ndarray, variances: np.ndarray, reference: Mixture, hyper_priors: HyperPriors
    ) -> None:
        self.points = points
        self.variances = variances
        self.hyper_priors = hyper_priors
        self.is_full = reference.is_full
        self.clusters, self.latent_dim = K, D = reference.means.shape
        second = points**2 + variances
        if self.is_full:
            self._rows, self._columns = np.tril_indices(D)
            self._is_diagonal = self._rows == self._columns
            products = points[:, self._rows] * points[:, self._columns]
            products[:, self._is_diagonal] = second
            second = products * (2.0 - self._is_diagonal)  # an entry stands for two of the matrix
        self._statistics = np.concatenate([second, points], 1)  # (N, F)
        self._ends = np.cumsum([K - 1, K * D, K * (D * (D + 1) // 2 if self.is_full else D)])
        self._centre(reference)

    @property
    def num_parameters(self) -> int:
        """Length P of u."""
        return int(self._ends[-1])

    def value_and_gradient(self, u: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the log-posterior density of u, up to a constant, and its gradient; u has shape (P,).

        Far from the reference, where numbers overflow, it is infinite.
        """
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            try:
                value, gradient = self._log_density(u)
            except np.linalg.LinAlgError:  # a standard deviation of zero
                value = -math.inf
        if not math.isfinite(value):
            return math.inf, np.zeros_like(u)
        return -value, -gradient

    def log_joint(self, u: np.ndarray, count: int | None = None) -> np.ndarray:
        r"""Log pi_k + l_nk of the first ``count`` points, shape (count, K)."""
        log_weights, means, _, factors, log_diagonal = self._parameters(u)
        _, _, coefficients, constant = self._coefficients(log_weights, means, factors, log_diagonal)
        return np.asarray(self._statistics[:count] @ coefficients.T + constant)

    def mixture(self, u: np.ndarray) -> Mixture:
        """The mixture that u (P,) stands for."""
        log_weights, means, _, factors, _ = self._parameters(u)
        covariances = factors @ factors.transpose(0, 2, 1) if self.is_full else factors**2
        return Mixture(np.exp(log_weights), means, covariances)

    def mode(self, max_steps: int = 500) -> Mixture:
        """The mode of the density of u that is near u = 0, by L-BFGS."""
        from scipy.optimize import minimize

        start = np.zeros(self.num_parameters)
        result = minimize(
            self.value_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": max_steps}
        )
        return self.mixture(result.x if np.isfinite(result.x).all() else start)

    def _centre(self, reference: Mixture) -> None:
        """Constants of the map from u to the parameters, and of the hyper-priors."""
        hyper, K, D = self.hyper_priors, self.clusters, self.latent_dim
        weights = np.maximum(reference.weights, MIN_WEIGHT)
        weights = weights / weights.sum()
        counts = (len(self.points) * weights)[:, None]
        basis = np.linalg.qr(np.column_stack([np.sqrt(weights), np.eye(K)[:, 1:]]))[0][:, 1:]
        covariances = reference.covariances
        if not self.is_full:
            covariances = covariances[:, :, None] * np.eye(D)
        information = counts[:, :, None] * np.linalg.inv(covariances) + np.eye(D) / hyper.mean_scale**2
        self._log_weights = np.log(weights)
        self._basis = basis / np.sqrt(counts)
        self._means = reference.means.astype(np.float64)
        self._mean_factors = np.linalg.cholesky(np.linalg.inv(information))
        self._factors = np.linalg.cholesky(covariances)
        self._log_diagonal = np.log(np.diagonal(self._factors, axis1=1, axis2=2))
        self._log_median = math.log(hyper.median(K, D))
        self._spread = 1 / np.sqrt(2 * counts + hyper.scale_spread**-2)
        if self.is_full:
            off_diagonal = 1 / np.sqrt(counts + hyper.correlation)
            self._spread = np.where(self._is_diagonal, self._spread, off_diagonal)
            row = np.arange(D)
            power = D - row - 1 + 2 * hyper.correlation
            self._powers = (power, power + row)

    def _log_density(self, u: np.ndarray) -> tuple[float, np.ndarray]:
        hyper, D = self.hyper_priors, self.latent_dim
        log_weights, means, shape, factors, log_diagonal = self._parameters(u)
        precisions, shift, coefficients, constant = self._coefficients(
            log_weights, means, factors, log_diagonal
        )
        log_joint = self._statistics @ coefficients.T + constant  # (N, K)
        top = log_joint.max(1, keepdims=True)
        joint = np.exp(log_joint - top)
        total = joint.sum(1, keepdims=True)
        scales_squared = (factors**2).sum(2) if self.is_full else factors**2
        log_scales = 0.5 * np.log(scales_squared)
        deviation = (log_scales - self._log_median) / hyper.scale_spread
        value = (
            top.sum()
            + np.log(total).sum()
            + hyper.concentration * log_weights.sum()
            - 0.5 * ((means / hyper.mean_scale) ** 2).sum()
            - 0.5 * (deviation**2).sum()
        )

        # From here on, d_x is the derivative of the value with respect to x.
        joint /= total  # the responsibilities
        d_coefficients, d_constant = joint.T @ self._statistics, joint.sum(0)
        d_quadratic, d_shift = d_coefficients[:, :-D], d_coefficients[:, -D:]
        d_shift = d_shift - 0.5 * d_constant[:, None] * means
        d_means = -0.5 * d_constant[:, None] * shift - means / hyper.mean_scale**2
        d_log_diagonal = np.repeat(-d_constant[:, None], D, axis=1)
        d_log_scales = -deviation / hyper.scale_spread
        if self.is_full:
            # LKJ's density of the factor of R, and the Jacobians u -> (sigma, that factor) -> their product.
            value += (log_diagonal @ self._powers[0] - log_scales @ self._powers[1]).sum()
            d_log_diagonal += self._powers[0]
            d_log_scales -= self._powers[1]
            d_means += np.einsum("kij,kj->ki", precisions, d_shift)
            d_precisions = d_shift[:, :, None] * means[:, None, :]
            d_precisions[:, self._rows, self._columns] -= 0.5 * d_quadratic
            # P = L^-T L^-1, so that dP = -(P dL L^-1 + transpose).
            inverse = np.linalg.inv(factors)
            both = d_precisions + d_precisions.transpose(0, 2, 1)
            d_factors = -precisions @ both @ inverse.transpose(0, 2, 1)
            d_factors += (d_log_scales / scales_squared)[:, :, None] * factors
            d_relative = (self._factors.transpose(0, 2, 1) @ d_factors)[:, self._rows, self._columns]
            d_shape = d_relative * np.where(self._is_diagonal, np.exp(shape), 1.0)
            d_shape[:, self._is_diagonal] += d_log_diagonal
        else:
            d_means += precisions * d_shift
            d_precisions = d_shift * means - 0.5 * d_quadratic
            d_shape = -2 * precisions * d_precisions + d_log_scales + d_log_diagonal
        d_log_weights = d_constant + hyper.concentration
        d_logits = d_log_weights - np.exp(log_weights) * d_log_weights.sum()
        gradient = np.concatenate(
            [
                d_logits @ self._basis,
                np.einsum("kij,ki->kj", self._mean_factors, d_means).ravel(),
                (self._spread * d_shape).ravel(),
            ]
        )
        return float(value), gradient

    def _parameters(self, u: np.ndarray) -> tuple[np.ndarray, ...]:
        """Log-weights, means, the scaled u of the factors, those (or standard deviations), log-diagonals."""
        K, D = self.clusters, self.latent_dim
        logits = self._log_weights + self._basis @ u[: self._ends[0]]
        log_weights = logits - np.logaddexp.reduce(logits)
        of_means = u[self._ends[0] : self._ends[1]].reshape(K, D)
        means = self._means + np.einsum("kij,kj->ki", self._mean_factors, of_means)
        shape = self._spread * u[self._ends[1] :].reshape(K, -1)
        if not self.is_full:
            log_diagonal = self._log_diagonal + shape
            return log_weights, means, shape, np.exp(log_diagonal), log_diagonal
        relative = np.zeros((K, D, D))
        relative[:, self._rows, self._columns] = np.where(self._is_diagonal, np.exp(shape), shape)
        log_diagonal = self._log_diagonal + shape[:, self._is_diagonal]
        return log_weights, means, shape, self._factors @ relative, log_diagonal

    def _coefficients(
        self, log_weights: np.ndarray, means: np.ndarray, factors: np.ndarray, log_diagonal: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """P, P mu, and the factors (K, F) of the statistics and the constants (K,) in log pi + l."""
        if self.is_full:
            inverse = np.linalg.inv(factors)
            precisions = inverse.transpose(0, 2, 1) @ inverse
            shift = np.einsum("kij,kj->ki", precisions, means)
            quadratic = precisions[:, self._rows, self._columns]
        else:
            precisions = quadratic = factors**-2
            shift = precisions * means
        constant = (
            log_weights - log_diagonal.sum(1) - 0.5 * ((shift * means).sum(1) + self.latent_dim * LOG_2_PI)
        )
        return precisions, shift, np.concatenate([-0.5 * quadratic, shift], 1), constant
