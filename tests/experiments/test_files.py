"""Protocol files: what is wrong is named with its line; fields are overridden; axes become settings."""

from pathlib import Path

import pytest

from nngp_prior.errors import DataUnavailable, InvalidInput
from nngp_prior.experiments import built_in, read_protocol
from nngp_prior.experiments.grid import settings_of
from nngp_prior.schemas.quantities import LogP
from nngp_prior.schemas.specs.training import Adam
from tests.experiments.cases import NETWORKS, written


@pytest.mark.parametrize(
    ("before", "after", "line", "problem"),
    [
        ("seeds = 2", "seeds = 0", 2, "greater than or equal to 1"),
        ("seeds = 2", "sedes = 2", 2, "sedes"),
        ("seeds = 2", "seeds = = 2", 2, "TOML"),
        ('"trace"', '"tracks"', 3, "tracks"),
        ('kind = "digits"', 'kind = "digit"', 6, "digit"),
        ("test = 20", "tests = 20", 8, "tests"),
        ("width = 4", 'width = "wide"', 12, "wide"),
        ('kind = "fully-connected"\n', "", 10, "kind"),
        ("attack = [0, 10]", "attack = []", 15, "at least 1"),
    ],
)
def test_an_error_names_its_line(tmp_path: Path, before: str, after: str, line: int, problem: str) -> None:
    with pytest.raises(InvalidInput, match=f"line {line}\\b") as caught:
        read_protocol(written(tmp_path, NETWORKS.replace(before, after)))
    assert "own.toml" in str(caught.value)
    assert problem in str(caught.value)


def test_fields_are_overridden(tmp_path: Path) -> None:
    changes = ["axes.attack=0,5,7", "seeds=3", "training.optimizer.kind=adam", "axes.depth=[1]", "data.dataset.n=40"]
    protocol = read_protocol(written(tmp_path, NETWORKS), changes)
    assert protocol.axes == {"attack": (0, 5, 7), "depth": (1,)}
    assert protocol.seeds == 3
    assert protocol.training.optimizer == Adam()
    assert protocol.data.dataset is not None
    assert protocol.data.dataset.n == 40
    assert isinstance(protocol.quantities[0], LogP)


@pytest.mark.parametrize("change", ["seeds", "=3", "seeds.more=1", "seeds=many"])
def test_overrides_that_say_nothing_are_refused(tmp_path: Path, change: str) -> None:
    with pytest.raises(InvalidInput):
        read_protocol(written(tmp_path, NETWORKS), [change])


def test_of_names_that_do_not_exist_the_nearest_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="Did you mean zhang2021-fcn-mnist"):
        read_protocol("zhang2021-fnc-mnist")
    with pytest.raises(DataUnavailable, match=r"nowhere\.toml"):
        read_protocol(tmp_path / "nowhere.toml")


def test_each_protocol_of_the_package_has_settings() -> None:
    protocols = built_in()
    assert "zhang2021-fcn-mnist" in protocols
    for name, protocol in protocols.items():
        assert protocol.name == name
        assert len({setting.key for setting in settings_of(protocol)}) == len(settings_of(protocol))


def test_axes_set_fields(tmp_path: Path) -> None:
    changes = [
        "axes.optimizer=['sgd', { kind = 'adam' }]",
        "axes.learning-rate=0.5",
        "axes.corruption=0.25",
        "axes.'architecture.bias_std'=0.3",
    ]
    settings = settings_of(read_protocol(written(tmp_path, NETWORKS), changes))
    assert len(settings) == 4
    first, last = settings[0].protocol, settings[-1].protocol
    assert (first.data.attack, last.data.attack) == (0, 10)
    assert last.training.optimizer == Adam(learning_rate=0.5)
    assert last.data.labelling is not None
    assert last.data.labelling.model_dump()["corruption"] == {"kind": "randomise", "probability": 0.25, "seed": 0}
    assert last.architecture.bias_std == 0.3
    assert dict(settings[-1].values) == {
        "attack": 10, "optimizer": "adam", "learning-rate": 0.5, "corruption": 0.25, "architecture.bias_std": 0.3,
    }  # fmt: skip


def test_settings_do_not_depend_on_other_values(tmp_path: Path) -> None:
    few, many = (
        settings_of(read_protocol(written(tmp_path, NETWORKS), [f"axes.attack={v}"])) for v in ("10", "0,10,20")
    )
    assert few[0].key == many[1].key
    assert few[0].seed == many[1].seed
    assert few[0].seed != many[0].seed


@pytest.mark.parametrize("axis", ["heigth", "architecture", "seeds", "data.nothing.at"])
def test_axes_of_no_field_are_refused(tmp_path: Path, axis: str) -> None:
    with pytest.raises(InvalidInput, match="axes"):
        settings_of(read_protocol(written(tmp_path, NETWORKS), [f"axes={{ '{axis}' = [1] }}"]))


def test_a_wrong_value_of_an_axis_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"axes \(attack = 10, width = 0\)"):
        settings_of(read_protocol(written(tmp_path, NETWORKS), ["axes={ attack = [10], width = [0] }"]))
