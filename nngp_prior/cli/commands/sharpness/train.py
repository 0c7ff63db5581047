"""``nngp-prior sharpness train``: training of networks to zero error, with or without an attack set."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import TypeAdapter

from nngp_prior.cli.common import options, output
from nngp_prior.cli.common.command import naming
from nngp_prior.cli.common.parsing import Given, describe, parse_corruption
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.specs.data import TrainingData
from nngp_prior.schemas.specs.training import FlatnessPenalty, Optimizer, Training
from nngp_prior.schemas.text import number_of
from nngp_prior.versions import versions

if TYPE_CHECKING:
    from nngp_prior.sharpness.training.trained import Trained

_OPTIMIZER: TypeAdapter[Optimizer] = TypeAdapter(Optimizer)
_IGNORED = {
    "inputs_file": tuple(name for name in options.OF_DATA if name != "n"),
    "labels_file": ("labelling",),
    "labelling": ("label_classes",),
}


@dataclass(frozen=True)
class DataOptions(options.DataOptions):
    """Data set of the training inputs; attack and test inputs follow them."""

    n: Annotated[
        int | None, typer.Option("-n", "--n", help="number of training inputs [500; of a file: all that remain]")
    ] = None


@dataclass(frozen=True)
class LabelOptions(options.OneLabelling):
    """Labels of all sets; the corruption is of the training set's only."""

    corrupt: Annotated[str | None, typer.Option(help=f"corruption of the training labels: {options.CORRUPTIONS}")] = (
        None
    )


def train(
    context: typer.Context,
    data: DataOptions,
    labels: LabelOptions,
    architecture: options.FiniteArchitectureOptions,
    attack: Annotated[
        int,
        typer.Option(
            help="number of attack inputs: trained on with flipped labels, or wrong classes; not part of the function"
        ),
    ] = 0,
    test: Annotated[int, typer.Option(help="number of test inputs")] = 0,
    inputs_file: options.InputsFile = None,
    label_classes: options.LabelClasses = None,
    optimizer: Annotated[
        str, typer.Option(help="optimizer: sgd, momentum, adam, entropy-sgd, sam, or a specification (.json)")
    ] = "sgd",
    learning_rate: Annotated[
        float | None, typer.Option(help="learning rate of the optimizer [0.01; adam 0.001, entropy-sgd 0.1]")
    ] = None,
    loss: Annotated[str, typer.Option(help="loss: cross-entropy or mse")] = "cross-entropy",
    flatness: Annotated[
        float | None, typer.Option(help="λ: add λ times the relative flatness of the output layer to the loss (FAM)")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="examples per minibatch [32, or all if there are fewer]")
    ] = None,
    goal: Annotated[
        str, typer.Option(help="set to reach zero error on: training (without the attack set), all or none")
    ] = "training",
    epochs: Annotated[int, typer.Option(help="maximum number of epochs until the goal")] = 1000,
    extra_epochs: Annotated[int, typer.Option(help="number of epochs after the goal")] = 0,
    keep_every: Annotated[int | None, typer.Option(help="number of epochs between kept parameters")] = None,
    dtype: options.Dtype = "float32",
    seeds: Annotated[int, typer.Option(help="number of networks, each with its own draw and its own minibatches")] = 1,
    seed: Annotated[int, typer.Option(help="random seed of all networks")] = 0,
    out: options.Checkpoint = None,
    quiet: options.Quiet = False,
    csv: options.Csv = False,
    json: options.Json = False,
) -> None:
    """Train networks, initialised from the prior, until they fit all labels."""
    network = architecture.specification()
    fields = {
        "optimizer": _optimizer(optimizer, learning_rate),
        **{"loss": loss, "goal": goal, "dtype": dtype},
        **({} if batch_size is None else {"batch_size": batch_size}),
        **{"epochs": epochs, "extra_epochs": extra_epochs, "keep_every": keep_every},
        "penalty": None if flatness is None else FlatnessPenalty(strength=flatness),
    }
    training = Training(**fields)
    options.require_npz(out)
    options.refuse_ignored(context, _IGNORED)
    source = _source(data, labels, network, inputs_file, attack, test)
    from nngp_prior.data.splits import number_of_classes, training_data
    from nngp_prior.sharpness.training.train import train as train_networks

    classes = label_classes or number_of_classes(source)
    sets = training_data(source, classes)
    X_test, y_test = sets.test or (None, None)
    count = len(sets.train[1])
    fields = source.model_dump(mode="json", exclude={"preprocessing"} if source.inputs_file is None else set())
    about = {name: value for name, value in fields.items() if value is not None and name != "n"}
    about |= {} if source.inputs_file is None else {"n": count}
    began = time.perf_counter()
    with output.ProgressBars() as bars:
        trained = train_networks(
            network,
            *sets.train,
            training,
            classes=classes,
            seeds=seeds,
            attack=sets.attack,
            X_test=X_test,
            y_test=y_test,
            seed=seed,
            source=about,
            checkpoint=out,
            progress=bars.bar(f"{network.kind}, {training.optimizer.kind}, n = {count:,}", rows=True),
        )
    seconds = time.perf_counter() - began
    rows = [_row(trained, i) for i in range(len(trained))]
    if json or csv:
        output.print_rows(
            {
                **{name: trained.about[name] for name in ("architecture", "training", "seed")},
                **about,
                **({} if classes is None else {"classes": classes}),
                "n": count,
                "parameters": trained.finite.size,
                "networks": rows,
                "file": None if out is None else str(out),
                "seconds": seconds,
                "versions": versions(),
            },
            "networks",
            csv=csv,
        )
        return
    _print(trained, rows, f"{count:,} {_described(source)}, {trained.finite.size:,} parameters", seconds)
    if out is not None:
        output.console.print(f"Written: {out}", highlight=False)


def _source(
    data: DataOptions, labels: LabelOptions, network: Architecture, inputs_file: Path | None, attack: int, test: int
) -> TrainingData:
    """Return the source of the sets: a data set, or files."""
    given = Given.of(data, network, labels=labels, inputs_file=inputs_file, corrupt=labels.labels_file is None)
    dataset, labellings = given._replace(fields={"n": 500, **given.fields}).specified()
    corrupt = labels.corrupt if given.labels_file is not None or not labellings else None
    files = {
        name: None if path is None else str(path.resolve())
        for name, path in (("inputs_file", inputs_file), ("labels_file", labels.labels_file))
    }
    return TrainingData(
        dataset=dataset,
        **files,
        preprocessing=given.preprocessing if dataset is None else "none",  # pyright: ignore[reportArgumentType]
        labelling=None if given.labels_file is not None or not labellings else labellings[0],
        corruption=None if corrupt is None else parse_corruption(corrupt, labels.corrupt_seed),
        n=data.n if dataset is None else None,
        attack=attack,
        test=test,
    )


def _described(source: TrainingData) -> str:
    """Describe data and labels briefly."""
    data = source.dataset.kind if source.dataset is not None else f"inputs of {Path(source.inputs_file or '').name}"
    labels = f"labels of {Path(source.labels_file).name}" if source.labels_file else "labels as in the file"
    return f"{data}, {labels if source.labelling is None else describe(source.labelling)}"


def _optimizer(name: str, learning_rate: float | None) -> Optimizer:
    if name.endswith(".json"):
        if learning_rate is not None:
            raise InvalidInput("--learning-rate", f"means nothing beside --optimizer {name}", "Leave one of them out.")
        fields = options.read_json(Path(name))
    else:
        fields = {"kind": name} | ({} if learning_rate is None else {"learning_rate": learning_rate})
    with naming({"kind": "--optimizer", "learning_rate": "--learning-rate"}, "--optimizer"):
        return _OPTIMIZER.validate_python(fields)


def _row(trained: Trained, i: int) -> dict[str, Any]:
    test_error, epoch = trained.test_error, trained.epochs[i]
    attack_error = trained.history.get("attack_error")
    return {
        "network": trained.seeds[i],
        "status": trained.statuses[i],
        "message": trained.message(i),
        "epochs": int(epoch),
        "reached": None if trained.reached[i] < 0 else int(trained.reached[i]),
        "loss": float(trained.loss[i]),
        "error": float(trained.error[i]),
        "attack_error": None if attack_error is None else float(attack_error[epoch, i]),
        "test_error": None if test_error is None else float(test_error[i]),
    }


def _print(trained: Trained, rows: list[dict[str, Any]], title: str, seconds: float) -> None:
    unit = "nats" if trained.training.loss == "cross-entropy" else "mse"
    headings = ["\nstatus", "\nepochs", f"loss\n({unit})", "training\nerror", "attack\nerror", "test\nerror"]
    table = output.table(*headings, title=title, rows="network")
    for row in rows:
        errors = (row["error"], row["attack_error"], row["test_error"])
        table.add_row(
            str(row["network"]),
            row["status"],
            f"{row['epochs']:,}",
            f"{row['loss']:.4g}" if math.isfinite(row["loss"]) else "–",
            *("–" if error is None else f"{error:.1%}" for error in errors),
        )
    output.print_table(table)
    output.console.print(f"{number_of(len(rows), 'network')} in {seconds:.1f} s", highlight=False)
    for row in rows:
        if row["message"]:
            output.note(f"network {row['network']}: {row['message']}")
