"""What is remembered of closed samples, to tell repeats from late ones, stays bounded."""

from support.building import NOW, Grid, assets, kind

from monitor.core.repeats import LEAST_KEPT


def test_an_asset_that_fell_silent_does_not_keep_what_the_others_sent():
    of = kind(remember_s=10)
    grid = Grid(of, *assets(2, of))
    grid.push((2, 0.0, 1.0))
    for second in range(20_000):
        grid.push((0, second, 1.0))
        if second % 100 == 0:
            grid.builder.listen(NOW + second * 1_000_000_000)
            grid.close(NOW + (second + 31) * 1_000_000_000)
    assert len(grid.builder._repeats) <= 2 * LEAST_KEPT + 200
