import numpy as np
import pytest

from nngp_prior.kernels.tiles import Grid


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("n", "n2"), [(1, 1), (7, 7), (8, 8), (9, 9), (100, 100), (7, 100), (100, 7)])
def test_every_entry_is_in_one_tile(n: int, n2: int, symmetric: bool) -> None:
    if symmetric and n != n2:
        return
    grid = Grid(n, n2, 8, symmetric)
    times = np.zeros((n, n2), int)
    for tile in grid.tiles:
        times[tile.rows, tile.columns] += 1
        assert tile.rows.stop - tile.rows.start <= grid.height <= 8
        assert tile.columns.stop - tile.columns.start <= grid.width <= 8
        if symmetric and not tile.on_diagonal:
            times[tile.columns, tile.rows] += 1
    assert (times == 1).all()
    assert len(grid.tiles) == len(grid)


@pytest.mark.parametrize("n", range(1, 200, 7))
def test_hardly_anything_is_padding(n: int) -> None:
    grid = Grid(n, n, 16, True)
    blocks = -(-n // grid.height)
    assert blocks * grid.height - n < blocks
