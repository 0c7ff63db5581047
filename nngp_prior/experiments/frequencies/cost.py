"""Expected cost of the tasks of a study of functions. Neither loads large inputs nor imports JAX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from nngp_prior.data.splits import Outlines
from nngp_prior.errors import InvalidInput
from nngp_prior.experiments.cost import estimation_cost, kernel_cost
from nngp_prior.experiments.frequencies.choice import choice_key
from nngp_prior.experiments.frequencies.inputs import Shapes, shapes_of
from nngp_prior.experiments.frequencies.tasks import FunctionTask, by_context, quantity_key
from nngp_prior.experiments.grid import Setting
from nngp_prior.experiments.store import Store
from nngp_prior.prior.sampling.cost import sampling_cost
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.frequencies import Complexity, FrequencyProtocol, FunctionQuantity, SampledLogP
from nngp_prior.schemas.quantities import LogP
from nngp_prior.schemas.specs.estimator import SMC
from nngp_prior.sharpness.cost import training_cost

_EPOCHS = 100  # guessed number of epochs until the goal
_BYTES, _SECONDS = 2**26, 2e-3  # of a complexity: the process, and each function


class Costs:
    """Expected cost of the tasks of a study; each data set is read once.

    Args:
        store: results so far, from which the number of epochs of further networks is guessed.
    """

    def __init__(self, store: Store) -> None:
        self._outlines = Outlines()
        self._shapes: dict[tuple[str, bool], Shapes] = {}
        finished = [row["epochs"] for row in store.rows("trained")]
        self._epochs = float(np.mean(finished)) if finished else None

    def of_networks(self, task: FunctionTask) -> Cost:
        """Return the cost of drawing or training the networks of a task."""
        own, shapes = task.setting.protocol, self._of(task.setting)
        if own.training is None:
            return sampling_cost(own.architecture, shapes.functions, own.seeds // 2)
        epochs = min(own.training.epochs, _EPOCHS) if self._epochs is None else self._epochs
        epochs += own.training.extra_epochs
        return training_cost(own.architecture, shapes.train, own.training, len(task.numbers), round(epochs))

    def of_choice(self, setting: Setting[FrequencyProtocol]) -> Cost:
        """Return the cost of choosing the functions of a setting: both halves are read."""
        own = setting.protocol
        row = 3 * -(-self._of(setting).functions[0] // 8) + 56  # bytes, as for drawing
        return Cost(_BYTES + own.seeds * row, 1e-6 * own.seeds)

    def of_quantity(self, setting: Setting[FrequencyProtocol], quantity: FunctionQuantity, functions: int) -> Cost:
        """Return the cost of a quantity of some functions."""
        own, shape = setting.protocol, self._of(setting).together
        if isinstance(quantity, Complexity):
            return Cost(_BYTES, _SECONDS * functions)
        if isinstance(quantity, SampledLogP) and own.training is None:
            return sampling_cost(own.architecture, shape, quantity.draws, "gp")
        kernel = kernel_cost(own.architecture, shape)
        if isinstance(quantity, LogP):
            estimator, times = quantity.estimator, functions
        elif isinstance(quantity, SampledLogP):
            estimator, times = SMC(), quantity.runs
        else:
            estimator, times = SMC(particles=quantity.particles, replicates=quantity.replicates), functions
        estimates = estimation_cost(shape[0], estimator, times)
        return Cost(estimates.bytes + kernel.bytes, estimates.seconds + kernel.seconds)

    def _of(self, setting: Setting[FrequencyProtocol]) -> Shapes:
        own = setting.protocol
        key = own.data.content_hash, own.training is None
        if key not in self._shapes:
            try:
                self._shapes[key] = shapes_of(own, self._outlines)
            except InvalidInput as error:
                raise InvalidInput(f"data ({setting}): {error.field}", error.problem, error.remedy) from None
        return self._shapes[key]


def cost_of(
    settings: Sequence[Setting[FrequencyProtocol]], left: Iterable[FunctionTask], store: Store, workers: int
) -> Cost | None:
    """Return the expected cost of what is left of a study; of functions not chosen yet, that of the largest number.

    Args:
        settings: all settings.
        left: tasks that draw or train networks.
        store: results so far.
        workers: number of tasks carried out at a time.

    Returns:
        the cost; None if nothing is left.
    """
    costs = Costs(store)
    found = [costs.of_networks(task) for task in left]
    for alike in by_context(settings):
        setting, choices = alike[0], [store.get(choice_key(each)) for each in alike]
        for quantity in setting.protocol.quantities:
            missing = sum(
                setting.protocol.functions
                if choice is None
                else sum(quantity_key(setting, quantity, f["function"]) not in store for f in choice["functions"])
                for choice in choices
            )
            if missing and not isinstance(quantity, Complexity):
                found.append(costs.of_quantity(setting, quantity, missing))
    if not found:
        return None
    return Cost(workers * max(each.bytes for each in found), sum(each.seconds for each in found) / workers)
