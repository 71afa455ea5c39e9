"""Compiled functions: eager's bits, whatever they read and write."""

import math

import pytest

import fluxion
import fluxion.nn.functional as F
from fluxion import nn, optim


def same(a, b):
    return fluxion._C._same_bits(a.detach().contiguous(), b.detach().contiguous())


def test_a_function_keeps_eagers_bits():
    def f(x, w):
        return F.softmax(F.gelu(x @ w), -1), x.sum()

    compiled = fluxion.compile(f)
    for _ in range(4):
        x, w = fluxion.randn(5, 7), fluxion.randn(7, 3)
        for a, b in zip(compiled(x, w), f(x, w), strict=True):
            assert same(a, b)
    assert "1 traces" in compiled.explain()


def test_another_shape_is_another_trace():
    f = fluxion.compile(lambda x: x * 2 + 1)
    for n in (3, 4, 3, 4, 3):
        x = fluxion.randn(n)
        assert same(f(x), x * 2 + 1)
    assert "2 traces" in f.explain()


def test_writes_to_arguments_and_views():
    def f(x):
        x[0] += 1
        y = x.view(-1)
        y[2:4].mul_(3)
        return x.t()

    compiled = fluxion.compile(f)
    for _ in range(3):
        a = fluxion.randn(3, 2)
        b = a.clone()
        ra, rb = compiled(a), f(b)
        assert same(a, b) and same(ra, rb)
        assert ra.data_ptr() == a.data_ptr()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(6, 16)
        self.norm = nn.BatchNorm1d(16)
        self.drop = nn.Dropout(0.3)
        self.fc2 = nn.Linear(16, 3)

    def forward(self, x):
        return self.fc2(self.drop(F.relu(self.norm(self.fc1(x)))))


class Trainer:
    """A training step with everything that changes between steps."""

    def __init__(self):
        fluxion.manual_seed(0)
        self.model = Net()
        self.optimizer = optim.AdamW(self.model.parameters(), lr=0.1, weight_decay=0.01)
        self.scheduler = optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=600)
        self.steps = 0
        self.best = math.inf
        self.bad = 0

    def step(self, x, y):
        self.optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
        self.optimizer.step()
        self.scheduler.step()
        self.steps += 1
        value = loss.item()
        if value < self.best:
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        return loss.detach()


def test_a_training_step_compiles_as_it_stands():
    eager, other = Trainer(), Trainer()
    step = fluxion.compile(other.step)
    fluxion.manual_seed(1)
    data = [(fluxion.randn(8, 6), fluxion.randint(0, 3, (8,))) for _ in range(500)]
    fluxion.manual_seed(2)
    losses = [eager.step(x, y) for x, y in data]
    fluxion.manual_seed(2)
    for i, (x, y) in enumerate(data):
        assert same(step(x, y), losses[i]), i
        if i == 20:
            warm = step.explain().splitlines()[0]
    assert step.explain().splitlines()[0] == warm, step.explain()
    for (name, a), (_, b) in zip(
        eager.model.state_dict().items(), other.model.state_dict().items(), strict=True
    ):
        assert same(a, b), name
    assert (eager.steps, eager.best, eager.bad) == (other.steps, other.best, other.bad)
    assert eager.optimizer.param_groups[0]["lr"] == other.optimizer.param_groups[0]["lr"]


def test_eval_after_compiling():
    model = Net()
    f = fluxion.compile(model.forward)
    x = fluxion.randn(4, 6)
    with fluxion.no_grad():
        f(x), f(x)
        model.eval()
        assert same(f(x), model(x))


def test_check_finds_hidden_state():
    calls = iter(range(100))
    f = fluxion.compile(lambda x: x * next(calls), check=True)
    f(fluxion.ones(2))
    with pytest.raises(RuntimeError, match="other bits"):
        f(fluxion.ones(2))


def test_reshape_after_a_transpose():
    def f(x):
        y = x.transpose(0, 1).contiguous().view(-1) * 2
        return y.view(2, -1), x.t().reshape(-1), (x.t() + 1).reshape(3, 4).t()

    compiled = fluxion.compile(f)
    for _ in range(3):
        x = fluxion.randn(4, 3)
        for a, b in zip(compiled(x), f(x), strict=True):
            assert same(a, b) and a.stride() == b.stride()


def test_a_compiled_module_is_its_module():
    model = Net()
    compiled = fluxion.compile(model, mode="max-autotune")
    assert isinstance(compiled, nn.Module) and list(compiled.state_dict()) == list(
        model.state_dict()
    )
    x = fluxion.randn(4, 6)
    compiled.eval()
    assert not model.training
    for _ in range(3):
        assert same(compiled(x), model(x))


def test_gradients_flow_through_a_compiled_module():
    fluxion.manual_seed(0)
    eager = nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 2))
    other = nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 2))
    other.load_state_dict(eager.state_dict())
    compiled = fluxion.compile(other)
    for _ in range(4):
        x = fluxion.randn(3, 5)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        F.mse_loss(eager(a * 2), fluxion.ones(3, 2)).backward()
        F.mse_loss(compiled(b * 2), fluxion.ones(3, 2)).backward()
        assert same(a.grad, b.grad)
        for p, q in zip(eager.parameters(), other.parameters(), strict=True):
            assert same(p.grad, q.grad)
    assert "1 traces" in compiled.explain()


def test_gradient_accumulation():
    def make():
        fluxion.manual_seed(0)
        model = nn.Linear(3, 2)
        return model, optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(model, optimizer, batches):
        optimizer.zero_grad()
        for x in batches:
            model(x).square().mean().backward()
        optimizer.step()

    (a, oa), (b, ob) = make(), make()
    compiled = fluxion.compile(lambda *batches: step(b, ob, batches))
    for _ in range(5):
        batches = [fluxion.randn(4, 3) for _ in range(3)]
        step(a, oa, batches)
        compiled(*batches)
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            assert same(p, q) and same(p.grad, q.grad)
    # The gradients' memory is the user's: what was kept stays as it was.


def test_state_that_is_rebound():
    class Recurrent:
        def __init__(self):
            self.h = fluxion.zeros(2, 3)

        def __call__(self, x):
            self.h = (self.h * 0.5 + x).tanh()
            return self.h.sum()

    a, b = Recurrent(), Recurrent()
    compiled = fluxion.compile(b)
    for _ in range(5):
        x = fluxion.randn(2, 3)
        assert same(a(x), compiled(x)) and same(a.h, b.h)
    assert "1 traces" in compiled.explain()


def test_an_error_in_a_run_names_the_line_and_changes_nothing():
    table = nn.Embedding(4, 2)
    counter = fluxion.zeros(1)

    def f(i):
        counter.add_(1)
        return table(i)

    compiled = fluxion.compile(f)
    compiled(fluxion.tensor([0, 1]))
    compiled(fluxion.tensor([2, 3]))
    assert counter.item() == 2
    with pytest.raises(IndexError, match=r"test_compile.py:\d+"):
        compiled(fluxion.tensor([0, 9]))
    assert counter.item() == 2


def test_check_passes_where_all_is_seen():
    trainer = Trainer()
    step = fluxion.compile(trainer.step, check=True)
    for _ in range(6):
        step(fluxion.randn(8, 6), fluxion.randint(0, 3, (8,)))


def test_a_result_whose_graph_was_used_inside():
    model = nn.Linear(3, 2)

    def step(x):
        model.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        with fluxion.no_grad():
            for p in model.parameters():
                p -= 0.1 * p.grad
        return loss

    compiled = fluxion.compile(step)
    for _ in range(3):
        loss = compiled(fluxion.ones(2, 3))
        assert loss.requires_grad and loss.grad_fn is not None
    with pytest.raises(RuntimeError, match="freed"):
        loss.backward()


def test_numbers_of_results():
    compiled = fluxion.compile(lambda x: (x.sum().item(), x.numel()))
    for _ in range(4):
        x = fluxion.randn(3)
        assert compiled(x) == (x.sum().item(), 3)
    assert "1 traces" in compiled.explain()


def test_seeding_inside_is_refused():
    def f(x):
        fluxion.manual_seed(0)
        return x + fluxion.randn(2)

    with pytest.raises(NotImplementedError, match="seed before the call"):
        fluxion.compile(f)(fluxion.ones(2))


def test_values_that_numpy_sees_are_conditions():
    compiled = fluxion.compile(lambda x: x * float(x.detach().numpy().max()) + sum(x.tolist()))
    for _ in range(3):
        x = fluxion.randn(3)
        assert same(compiled(x), x * float(x.numpy().max()) + sum(x.tolist()))


def test_threads_may_share_a_compiled_function():
    from concurrent.futures import ThreadPoolExecutor

    w = fluxion.randn(64, 64)
    compiled = fluxion.compile(lambda x: (x @ w).softmax(-1) @ w)
    inputs = [fluxion.randn(200, 64) for _ in range(64)]
    compiled(inputs[0])
    with ThreadPoolExecutor(4) as pool:
        for x, y in zip(inputs, pool.map(compiled, inputs), strict=True):
            assert same(y, (x @ w).softmax(-1) @ w)
