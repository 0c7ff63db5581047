"""How finite networks are trained."""

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
    """Gradient descent with momentum: m ← μ m + g, θ ← θ - η m; Nesterov's takes g + μ m in the place of m.

    Attributes:
        learning_rate: η.
        momentum: μ.
        nesterov: whether it is Nesterov's.
    """

    kind: Literal["momentum"] = "momentum"
    learning_rate: _Rate = 0.01
    momentum: _Decay = 0.9
    nesterov: StrictBool = False


class Adam(Specification):
    """Kingma and Ba 2015 (1412.6980), algorithm 1.

    Attributes:
        learning_rate: α.
        beta1: decay of the mean of gradients.
        beta2: decay of the mean of their squares.
        epsilon: added to the root of the latter.
    """

    kind: Literal["adam"] = "adam"
    learning_rate: _Rate = 1e-3
    beta1: _Decay = 0.9
    beta2: _Decay = 0.999
    epsilon: Annotated[float, Field(gt=0, le=1e6), PLAIN] = 1e-8


class EntropySGD(Specification):
    r"""Chaudhari et al. 2017 (1611.01838), algorithm 1: descent on the negative local entropy.

    A step runs L steps of stochastic gradient Langevin dynamics from θ, each on a minibatch of its own, and then moves
    θ towards their running mean μ:

    .. math::
        θ' ← θ' - η' (g(θ') - γ (θ - θ')) + \sqrt{η'}\, ε\, N(0, I), \qquad μ ← α μ + (1 - α) θ',
        \qquad θ ← θ - η (θ - μ),

    the last with Nesterov's momentum; γ = γ₀ (1 + γ₁)ᵗ in step t. As in the authors' code, the last step has no factor
    γ (their section 4.3), and α is the weight of the old mean. An epoch has as many steps as those of the others, hence
    takes L times as many gradients.

    Attributes:
        learning_rate: η.
        momentum: of the outer steps, Nesterov's.
        langevin_steps: L.
        langevin_rate: η'.
        langevin_momentum: Nesterov's, within the L steps and from zero in each step; algorithm 1 has none, the
            authors' code that of the outer steps.
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

    Both gradients are of the same minibatch. Where the first one is zero, θ is not displaced.

    Attributes:
        learning_rate: η.
        momentum: as of ``momentum``; 0 for none.
        rho: ρ.
    """

    kind: Literal["sam"] = "sam"
    learning_rate: _Rate = 0.01
    momentum: _Decay = 0.0
    rho: Annotated[float, Field(gt=0, le=1e6), PLAIN] = 0.05


Optimizer = Annotated[SGD | Momentum | Adam | EntropySGD | SAM, Field(discriminator="kind")]
Goal = Literal["training", "all", "none"]


class FlatnessPenalty(Specification):
    """FAM, Adilova et al. 2023 (2307.02337): λ κ_Tr is added to the loss of each minibatch, κ_Tr being its own.

    Attributes:
        strength: λ.
        layer: whose relative flatness, by its name; ``each`` is the sum over all dense layers; the output layer when
            absent.
    """

    kind: Literal["flatness"] = "flatness"
    strength: Annotated[float, Field(gt=0, le=1e6), PLAIN] = 0.1
    layer: str | None = None


class Training(Specification):
    """Training on minibatches until all signs are right, and if wanted on from there.

    Attributes:
        optimizer: and its options.
        loss: ``cross-entropy`` log(1 + exp(-y f)) in nats, or ``mse`` (f - y)²; the mean over a minibatch.
        penalty: what is added to it; nothing when absent. It is no part of the losses that are written down.
        batch_size: examples of a minibatch. In each epoch the examples are shuffled and cut into minibatches; the last
            one may be smaller, and its loss is the mean over those that it has.
        goal: training ends after the first epoch with zero error on the ``training`` set without the attack set, or on
            ``all`` points; with ``none`` after ``epochs``.
        epochs: at most so many until the goal.
        extra_epochs: E, so many more after the goal.
        keep_every: parameters are kept after every so many epochs; only the last ones when absent.
        dtype: of parameters and gradients.
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
