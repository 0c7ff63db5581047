"""Specifications of training of finite networks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool, model_validator

from nngp_prior.schemas.base import PLAIN, Count, NotNegative, Specification

LossName = Literal["cross-entropy", "mse"]
_Rate = Annotated[float, Field(gt=0, le=1e6), PLAIN]
_Decay = Annotated[float, Field(ge=0, lt=1), PLAIN]


class SGD(Specification):
    """Gradient descent on minibatches: θ ← θ - η g.

    Attributes:
        learning_rate: η.
    """

    kind: Literal["sgd"] = "sgd"
    learning_rate: _Rate = 0.01


class Momentum(Specification):
    """Gradient descent with momentum: m ← μ m + g, θ ← θ - η m; Nesterov's uses g + μ m instead of m.

    Attributes:
        learning_rate: η.
        momentum: μ.
        nesterov: True for Nesterov's momentum.
    """

    kind: Literal["momentum"] = "momentum"
    learning_rate: _Rate = 0.01
    momentum: _Decay = 0.9
    nesterov: StrictBool = False


class Adam(Specification):
    """Kingma and Ba 2015 (1412.6980), algorithm 1.

    Attributes:
        learning_rate: α.
        beta1: decay rate of the mean of gradients.
        beta2: decay rate of the mean of squared gradients.
        epsilon: constant added to the square root of the latter mean.
    """

    kind: Literal["adam"] = "adam"
    learning_rate: _Rate = 1e-3
    beta1: _Decay = 0.9
    beta2: _Decay = 0.999
    epsilon: Annotated[float, Field(gt=0, le=1e6), PLAIN] = 1e-8


class EntropySGD(Specification):
    r"""Chaudhari et al. 2017 (1611.01838), algorithm 1: descent on the negative local entropy.

    A step runs L steps of stochastic gradient Langevin dynamics from θ, each on a separate minibatch, and then moves θ
    towards their running mean μ:

    .. math::
        θ' ← θ' - η' (g(θ') - γ (θ - θ')) + \sqrt{η'}\, ε\, N(0, I), \qquad μ ← α μ + (1 - α) θ',
        \qquad θ ← θ - η (θ - μ),

    the last with Nesterov's momentum; γ = γ₀ (1 + γ₁)ᵗ in step t. As in the authors' code, the last step has no factor
    γ (their section 4.3), and α is the weight of the old mean. An epoch has as many steps as for the other optimizers,
    hence takes L times as many gradients.

    Attributes:
        learning_rate: η.
        momentum: Nesterov's momentum of the outer steps.
        langevin_steps: L.
        langevin_rate: η'.
        langevin_momentum: Nesterov's momentum within the L steps, starting from zero in each step; algorithm 1 has
            none, the authors' code uses that of the outer steps.
        averaging: α.
        noise: ε.
        scope: γ₀.
        scoping: γ₁.
    """

    kind: Literal["entropy-sgd"] = "entropy-sgd"
    learning_rate: _Rate = 0.1
    momentum: _Decay = 0.9
    langevin_steps: Annotated[int, Field(ge=1, le=1000), PLAIN] = 20
    langevin_rate: _Rate = 0.1
    langevin_momentum: _Decay = 0.0
    averaging: _Decay = 0.75
    noise: NotNegative = 1e-4
    scope: NotNegative = 1e-4
    scoping: NotNegative = 1e-3


class SAM(Specification):
    """Sharpness-aware minimisation, Foret et al. 2021 (2010.01412), algorithm 1: θ ← θ - η g(θ + ρ g(θ)/‖g(θ)‖).

    Both gradients are of the same minibatch. If the first one is zero, θ is not displaced.

    Attributes:
        learning_rate: η.
        momentum: as for :class:`Momentum`; 0 for none.
        rho: ρ.
    """

    kind: Literal["sam"] = "sam"
    learning_rate: _Rate = 0.01
    momentum: _Decay = 0.0
    rho: Annotated[float, Field(gt=0, le=1e6), PLAIN] = 0.05


Optimizer = Annotated[SGD | Momentum | Adam | EntropySGD | SAM, Field(discriminator="kind")]
Goal = Literal["training", "all", "none"]


class FlatnessPenalty(Specification):
    """FAM, Adilova et al. 2023 (2307.02337): λ κ_Tr of each minibatch is added to its loss.

    Attributes:
        strength: λ.
        layer: name of the layer of the relative flatness; ``each`` for the sum over all dense layers. Default: the
            output layer.
    """

    kind: Literal["flatness"] = "flatness"
    strength: Annotated[float, Field(gt=0, le=1e6), PLAIN] = 0.1
    layer: str | None = None


class Training(Specification):
    """Training on minibatches until all signs are correct, optionally with additional epochs.

    Attributes:
        optimizer: optimizer with its options.
        loss: ``cross-entropy`` log(1 + exp(-y f)) in nats, or ``mse`` (f - y)²; the mean over a minibatch.
        penalty: penalty added to the loss; not included in recorded losses. Default: none.
        batch_size: number of examples in a minibatch. In each epoch the examples are shuffled and divided into
            minibatches; the last one may be smaller, and its loss is the mean over its examples. If it is not given and
            there are fewer than 32 examples, it is their number.
        goal: training ends after the first epoch with zero error on the ``training`` set without the attack set, or on
            ``all`` points; ``none`` trains for ``epochs``.
        epochs: maximal number of epochs to reach the goal.
        extra_epochs: number of additional epochs E after the goal.
        keep_every: number of epochs between kept parameters. Default: only the final ones are kept.
        dtype: dtype of parameters and gradients.
    """

    optimizer: Optimizer = SGD()
    loss: LossName = "cross-entropy"
    penalty: FlatnessPenalty | None = None
    batch_size: Count = 32
    goal: Goal = "training"
    epochs: Annotated[int, Field(ge=0, le=10**7), PLAIN] = 1000
    extra_epochs: Annotated[int, Field(ge=0, le=10**7), PLAIN] = 0
    keep_every: Count | None = None
    dtype: Literal["float32", "float64"] = "float32"

    @model_validator(mode="after")
    def _extra_epochs_follow_a_goal(self) -> Training:
        if self.goal == "none" and self.extra_epochs:
            raise ValueError("extra_epochs follow a goal: pass goal='training' or 'all', or count them in epochs")
        return self
