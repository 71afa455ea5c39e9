"""Golden texts of what the argument binder says."""

import pytest

import fluxion as fx

SUM = "Signature: sum(input, dim=None, keepdim=False, *, dtype=None)"
x = fx.ones(2, 3)

CASES = [
    (
        lambda: x.sum(dims=0),
        f"sum() got an unexpected keyword argument 'dims'; did you mean 'dim'? {SUM}",
    ),
    (
        lambda: x.sum(0, keep_dim=True),
        f"sum() got an unexpected keyword argument 'keep_dim'; did you mean 'keepdim'? {SUM}",
    ),
    (lambda: x.sum(quux=1), f"sum() got an unexpected keyword argument 'quux'. {SUM}"),
    (lambda: fx.sum(), f"sum() missing required argument 'input' (Tensor). {SUM}"),
    (lambda: fx.sum(1), f"sum(): argument 'input' must be Tensor, not int (1). {SUM}"),
    (lambda: fx.sum([1, 2]), f"sum(): argument 'input' must be Tensor, not list ([1, 2]). {SUM}"),
    (
        lambda: x.sum("rows"),
        f"sum(): argument 'dim' must be int or tuple of ints or None, not str ('rows'). {SUM}",
    ),
    (
        lambda: x.sum((0, 1.5)),
        f"sum(): argument 'dim' must be int or tuple of ints or None, not tuple ((0, 1.5)); item 1 is float (1.5). {SUM}",
    ),
    (
        lambda: x.sum(True),
        f"sum(): argument 'dim' must be int or tuple of ints or None, not bool (True). {SUM}",
    ),
    (lambda: x.sum(0, 1), f"sum(): argument 'keepdim' must be bool, not int (1). {SUM}"),
    (
        lambda: x.sum(0, True, fx.float32),
        f"sum() takes at most 3 positional arguments (4 given). {SUM}",
    ),
    (lambda: x.sum(0, dim=0), f"sum() got multiple values for argument 'dim'. {SUM}"),
    (
        lambda: x.sum(dtype="float32"),
        f"sum(): argument 'dtype' must be fluxion.dtype or None, not str ('float32'). {SUM}",
    ),
    (
        lambda: x.neg(1),
        "neg() takes at most 1 positional argument (2 given). Signature: neg(input)",
    ),
    (
        lambda: x.neg_(1),
        "neg_() takes at most 1 positional argument (2 given). Signature: neg(input)",
    ),
    (
        lambda: x.mul("a"),
        "mul(): argument 'other' must be Tensor or number, not str ('a'). Signature: mul(input, other)",
    ),
    (
        lambda: x.transpose(0),
        "transpose() missing required argument 'dim1' (int). Signature: transpose(input, dim0, dim1)",
    ),
    (lambda: fx.Tensor.neg(1), "neg() must be called on a Tensor, not int"),
    (lambda: fx.Tensor.neg(), "neg() must be called on a Tensor, not nothing"),
    (
        lambda: x.max("a", 1),
        "max() does not accept (str, int). It can be called as:\n"
        "    max(input)\n    max(input, dim, keepdim=False)\n    max(input, other)",
    ),
]


@pytest.mark.parametrize(("call", "text"), CASES, ids=[text[:40] for _, text in CASES])
def test_texts(call, text):
    with pytest.raises(TypeError) as error:
        call()
    assert str(error.value) == text


def test_long_arguments_are_shortened():
    with pytest.raises(TypeError, match=r"not list; item 0 is str \('a'\)\. Signature"):
        x.sum(["a" for _ in range(30)])


def test_errors_of_the_core_keep_their_kind():
    with pytest.raises(RuntimeError):
        x + fx.ones(4)
    with pytest.raises(IndexError):
        x.sum(5)
    with pytest.raises(ValueError, match="does not fit in 64 bits"):
        x.sum(2**70)


def test_inplace_refuses_lossy_results():
    with pytest.raises(
        RuntimeError, match="result type float32 can't be cast to the in-place target's type int64"
    ):
        fx.ones(2, dtype=fx.int64).add_(1.5)
    i = fx.ones(2, dtype=fx.int64)
    with pytest.raises(RuntimeError, match="can't be cast"):
        i *= 2.5
    with pytest.raises(RuntimeError, match="does not fit the in-place target's shape"):
        fx.ones(3).add_(fx.ones(2, 3))


def test_inplace_refuses_overlap():
    y = fx.arange(3.0)
    with pytest.raises(RuntimeError, match="overlap"):
        y[1:].add_(y[:-1])
    with pytest.raises(RuntimeError, match="overlap"):
        y[1:] += y[:-1]
    with pytest.raises(RuntimeError, match="single memory location"):
        fx.ones(3, 1).expand(3, 3).add_(1)
