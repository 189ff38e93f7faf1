import numpy as np
import pytest

from elektronn_tui.data import draw_digits
from elektronn_tui.errors import DataError


@pytest.fixture(scope="module")
def drawn():
    return draw_digits(1200, seed=1)


def test_images_and_labels(drawn):
    images, labels = drawn
    assert (images.shape, images.dtype, labels.dtype) == ((1200, 28, 28), np.uint8, np.uint8)
    assert np.bincount(labels).tolist() == [120] * 10
    assert not (np.diff(labels.astype(int)) == 0).all()
    ink = (images > 100).mean((1, 2))
    assert ink.min() > 0.03
    assert ink.max() < 0.5
    assert (images[:, [0, -1]] > 128).mean() < 0.02  # nothing is cut off


def test_the_seed_decides_and_more_begin_with_the_fewer(drawn):
    images, labels = drawn
    few, of_few = draw_digits(25, seed=1)
    np.testing.assert_array_equal(few, images[:25])
    np.testing.assert_array_equal(of_few, labels[:25])
    assert not np.array_equal(draw_digits(25, seed=2)[0], few)


def test_nearest_neighbours_tell_most_of_them_and_a_mean_image_does_not(drawn):
    """Harder than a template for each class, easy enough to be learnt of a few hundred."""
    images, labels = drawn
    flat = images.reshape(1200, -1) / 255.0
    train, test = flat[:1000], flat[1000:]
    means = np.stack([train[labels[:1000] == k].mean(0) for k in range(10)])

    def distances(a, b):
        return (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T

    nearest = labels[:1000][distances(test, train).argmin(1)]
    template = distances(test, means).argmin(1)
    assert (nearest != labels[1000:]).mean() < 0.25
    assert (template != labels[1000:]).mean() > 0.15


def test_other_sizes_are_drawn_alike():
    small, large = draw_digits(10, seed=3, size=20, noise=0)[0], draw_digits(10, seed=3, size=40, noise=0)[0]
    reduced = large.reshape(10, 20, 2, 20, 2).mean((2, 4))
    assert np.corrcoef(small.ravel(), reduced.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("wrong", [{"n": 0}, {"seed": -1}, {"size": 5}, {"n": 2.5}, {"noise": 2}])
def test_numbers_that_make_no_sense(wrong):
    with pytest.raises(DataError, match=f"draw_digits: {next(iter(wrong))}="):
        draw_digits(**({"n": 1} | wrong))
