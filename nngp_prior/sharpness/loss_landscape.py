r"""The loss on lines and planes through a network's parameters (Li et al. 2018, arXiv 1712.09913).

.. math:: L(θ + x d_1 + y d_2), \qquad d_f ← d_f \frac{‖w_f‖}{‖d_f‖} \text{ for each filter } f
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float
from numpy.typing import ArrayLike

from nngp_prior.architectures import FromNetwork
from nngp_prior.architectures.inputs import requires_architecture
from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.checkpoint import Checkpoint
from nngp_prior.numerics.chunks import filled_up
from nngp_prior.numerics.hashing import digest
from nngp_prior.numerics.random import generator
from nngp_prior.numerics.whole_files import writable
from nngp_prior.progress import Progress, ProgressCallback, ProgressOption, shown
from nngp_prior.schemas.seeds import SeedLike, checked_seed
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.landscape import Landscape, Normalisation
from nngp_prior.schemas.specs.training import LossName
from nngp_prior.sharpness.cost import landscape_cost
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.losses import error_of
from nngp_prior.sharpness.risk.networks import Parameters, high_precision
from nngp_prior.sharpness.surface import Surface
from nngp_prior.sharpness.training.trained import described

_AT_A_TIME = 16  # points per call
_MARGIN = 0.1  # margin on each side of the trajectory, as a fraction of its width


@requires_architecture
def landscape(
    architecture: Architecture | FromNetwork,
    parameters: Parameters,
    X: ArrayLike,
    y: ArrayLike,
    specification: Landscape | None = None,
    *,
    loss: LossName = "cross-entropy",
    dtype: str = "float64",
    chunk: int | None = None,
    classes: int | None = None,
    seed: SeedLike = 0,
    trajectory: Sequence[Parameters] | None = None,
    path: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
) -> Surface:
    """Loss and training error on a line or plane through a network's parameters.

    Args:
        architecture: specification of the network, or a user's network with one output, or C. Filters are the last
            axis of weight arrays.
        parameters: θ, as returned by ``architectures.network(architecture).init`` or by training.
        X: (n, …) inputs.
        y: (n,) labels -1 or +1, or booleans; with ``classes``, integers 0 … C-1.
        specification: grid, and normalisation of directions.
        loss: ``cross-entropy`` (nats) or ``mse``, as for :class:`EmpiricalRisk`.
        dtype: ``float64`` or ``float32``.
        chunk: number of examples processed at a time. Default: as many as fit into about 128 MiB.
        classes: number of outputs C, for labels 0 … C-1. Default: one output, for labels ±1.
        seed: random seed of the directions; the random numbers do not depend on θ.
        trajectory: parameters on the way to θ, such as those kept by training. The directions are then the first
            principal directions, of length 1, of their differences from θ instead of random (section 7 of the paper).
        path: ``.npz`` file, to which results are saved at least ten seconds apart and at the end. A repeated call
            resumes from it.
        progress: True for a progress bar, or a callback, called with the expected cost and with the number of points.

    Returns:
        the landscape.

    Raises:
        InvalidInput: if an argument is invalid, or the file holds another landscape.
    """
    specification = specification or Landscape()
    if not isinstance(specification, Landscape):
        raise InvalidInput("specification", f"got {specification!r}", "Pass Landscape(…), or nothing.")
    seed = checked_seed(seed)
    risk = EmpiricalRisk.of(architecture, parameters, X, y, loss=loss, dtype=dtype, chunk=chunk, classes=classes)
    steps = None if trajectory is None else np.array([risk.network.flatten(each) for each in trajectory])
    about = {
        "architecture": described(architecture),
        "landscape": specification.model_dump(mode="json"),
        "loss": loss,
        "dtype": dtype,
        "chunk": risk.chunk,
        "seed": seed if trajectory is None else None,
        "n": risk.n,
        "examples": digest(np.asarray(risk.X), np.asarray(risk.y)),
        "parameters": digest(np.asarray(risk.theta)),
        "trajectory": None if steps is None else digest(steps),
        **({} if risk.classes is None else {"classes": risk.classes}),
    }
    file = writable("path", path)
    directions, surface = _planned(risk, specification, seed, steps, about)
    if file is not None and file.exists():
        before = Surface.load(file)
        if before.about != about:
            others = ", ".join(name for name in about if before.about.get(name) != about[name])
            problem_ = f"{file} is of another landscape (another {others or 'version'})"
            raise InvalidInput("path", problem_, "Name another file.")
        surface.loss[...], surface.error[...] = before.loss, before.error
    with shown(progress, "landscape") as tell:
        _fill(risk, directions, surface, file, tell)
    return surface


def random_directions(
    risk: EmpiricalRisk, dimensions: int, normalisation: Normalisation, seed: int
) -> Float[np.ndarray, "dimensions P"]:
    """Draw random directions, scaled to the lengths of the weights.

    Args:
        risk: risk at the parameters that lengths are taken from.
        dimensions: number of directions.
        normalisation: ``filter``, ``layer`` or ``none``.
        seed: random seed.

    Returns:
        one direction per row.
    """
    theta = np.asarray(risk.theta, dtype=np.float64)
    found = np.zeros((dimensions, risk.size))
    for i, direction in enumerate(found):
        rng = generator(seed, "direction", i)
        for block in risk.blocks:
            if block.role == "bias":
                continue
            d = rng.standard_normal(block.shape)
            axes = tuple(range(len(block.shape) - (normalisation == "filter")))
            if normalisation != "none":
                w = theta[block.start : block.stop].reshape(block.shape)
                # d_f ← d_f ‖w_f‖ / ‖d_f‖
                d *= np.sqrt(np.sum(w**2, axes, keepdims=True) / np.sum(d**2, axes, keepdims=True))
            direction[block.start : block.stop] = d.ravel()
    return found


def principal_directions(
    steps: Float[np.ndarray, "steps P"], theta: Float[np.ndarray, " P"], dimensions: int
) -> tuple[Float[np.ndarray, "dimensions P"], Float[np.ndarray, "steps dimensions"], Float[np.ndarray, " dimensions"]]:
    """Compute the first principal directions of a path's differences from its end.

    Args:
        steps: parameters on the path, one point each.
        theta: end of the path.
        dimensions: number of directions.

    Returns:
        orthonormal directions; the path's coordinates along them, from θ; and the fraction of its squared distances
        from θ that each explains.

    Raises:
        InvalidInput: if the path has fewer independent directions.
    """
    distances = steps - theta
    U, sizes, V = np.linalg.svd(distances, full_matrices=False)
    if np.sum(sizes > 1e-12 * np.linalg.norm(theta)) < dimensions:
        problem = f"{len(steps)} points on a path in fewer than {dimensions} directions from the parameters"
        raise InvalidInput("trajectory", problem, "Pass more points before the end, or ask for a line.")
    # Signs of singular vectors are arbitrary: choose those for which the path begins on the positive side.
    first = (U * sizes)[0, :dimensions]
    signs = np.where(first < 0, -1.0, 1.0)
    directions = signs[:, None] * V[:dimensions]
    return directions, distances @ directions.T, (sizes**2 / np.sum(sizes**2))[:dimensions]


def _planned(
    risk: EmpiricalRisk, specification: Landscape, seed: int, steps: np.ndarray | None, about: Mapping[str, Any]
) -> tuple[np.ndarray, Surface]:
    """Compute the directions; return a landscape without values."""
    k, points, radius = specification.dimensions, specification.points, specification.radius
    path = explained = None
    if steps is None:
        directions = random_directions(risk, k, specification.normalisation, seed)
    else:
        directions, path, explained = principal_directions(steps, np.asarray(risk.theta, dtype=np.float64), k)
    if path is None or radius is not None:
        # The middle coordinate of an odd number is exactly 0.
        along = (radius or 1.0) * (2 * np.arange(points) - (points - 1)) / (points - 1)
        coordinates = (along,) * k
    else:
        ends = [(min(0.0, *axis), max(0.0, *axis)) for axis in path.T]
        coordinates = tuple(
            np.linspace(low - _MARGIN * (high - low), high + _MARGIN * (high - low), points) for low, high in ends
        )
    missing = np.full((points,) * k, np.nan)
    lengths = np.linalg.norm(directions, axis=1)
    return directions, Surface(
        specification, coordinates, missing, missing.copy(), lengths, path, explained, dict(about)
    )


def _fill(
    risk: EmpiricalRisk, directions: np.ndarray, surface: Surface, path: Path | None, progress: ProgressCallback
) -> None:
    """Compute the missing points."""
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*surface.coordinates, indexing="ij")], axis=1)
    loss, error = surface.loss.reshape(-1), surface.error.reshape(-1)  # views
    missing = np.flatnonzero(np.isnan(error))
    checkpoint, own = Checkpoint(path, surface.save), risk.network.architecture
    cost = None if isinstance(own, FromNetwork) else landscape_cost(own, risk.X.shape, len(missing), str(risk.dtype))
    progress(Progress("points", len(grid) - len(missing), len(grid), cost))
    with high_precision():
        along = jnp.asarray(directions, risk.dtype)
        for first in range(0, len(missing), _AT_A_TIME):
            chosen = missing[first : first + _AT_A_TIME]
            # One shape for all calls: the last is padded with its first point.
            found = _figures(risk, along, jnp.asarray(grid[filled_up(chosen, _AT_A_TIME)], risk.dtype))
            loss[chosen], error[chosen] = (np.asarray(values)[: len(chosen)] for values in found)
            checkpoint.save_if_due()
            progress(Progress("points", len(grid) - len(missing) + first + len(chosen), len(grid)))
    if len(missing):
        checkpoint.save()


@jax.jit
def _figures(
    risk: EmpiricalRisk, directions: Float[Array, "dimensions P"], points: Float[Array, "points dimensions"]
) -> tuple[Float[Array, " points"], Float[Array, " points"]]:
    """Loss and error at points, sequentially: the bits of a point do not depend on the others."""

    def one(point: Array) -> tuple[Array, Array]:
        theta = risk.theta + point @ directions

        def part(X: Array, y: Array, w: Array) -> tuple[Array, Array]:
            f = risk.outputs(theta, X)
            return w @ risk.output_loss(f, y), w @ error_of(risk.classes)(f, y)

        loss, error = risk.total(part)
        # On overflow, ∞ - ∞ is NaN.
        return jnp.where(jnp.isfinite(loss), loss, jnp.inf), error

    return lax.map(one, points)
