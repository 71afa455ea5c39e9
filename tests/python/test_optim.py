"""Optimizers and schedules beyond their values (those are in test_nn_oracle.py)."""

import copy
import pickle
import warnings

import pytest

import fluxion
from fluxion import nn, optim
from fluxion.optim import lr_scheduler


def parameter(value=1.0):
    p = nn.Parameter(fluxion.tensor([value]))
    p.grad = fluxion.tensor([0.5])
    return p


def quadratic_steps(optimizer, p, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        ((p - 3) ** 2).sum().backward()
        optimizer.step()
    return p.item()


KINDS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.5),
    "Adam": lambda p: optim.Adam(p, lr=0.2),
    "AdamW": lambda p: optim.AdamW(p, lr=0.2, weight_decay=0.0),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.05),
    "Adagrad": lambda p: optim.Adagrad(p, lr=1.0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_finds_a_minimum(kind):
    p = nn.Parameter(fluxion.tensor([0.0]))
    assert abs(quadratic_steps(KINDS[kind]([p]), p, 200) - 3) < 0.05


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["state_dict", "pickle", "file"])
def test_resuming_continues_exactly(kind, way, tmp_path):
    p, q = nn.Parameter(fluxion.tensor([0.0])), nn.Parameter(fluxion.tensor([0.0]))
    first, second = KINDS[kind]([p]), KINDS[kind]([q])
    quadratic_steps(first, p, 5)
    q.data = p.data.clone()
    state = first.state_dict()
    if way == "pickle":
        state = pickle.loads(pickle.dumps(state))
    if way == "file":
        fluxion.save(state, tmp_path / "o.safetensors")
        state = fluxion.load(tmp_path / "o.safetensors")
    second.load_state_dict(state)
    assert quadratic_steps(first, p, 5) == quadratic_steps(second, q, 5)


def test_loading_copies_state():
    p = parameter()
    first = optim.Adam([p])
    first.step()
    second = optim.Adam([p])
    second.load_state_dict(first.state_dict())
    first.state[p]["exp_avg"].fill_(7)
    assert second.state[p]["exp_avg"].item() != 7


def test_loaded_state_follows_the_dtype_of_the_parameter():
    p = parameter()
    state = optim.Adam([p])
    state.step()
    half = nn.Parameter(p.data.half())
    other = optim.Adam([half])
    other.load_state_dict(state.state_dict())
    assert other.state[half]["exp_avg"].dtype == fluxion.float16
    assert other.state[half]["step"].dtype == fluxion.float32


def test_loading_checks_the_groups():
    state = optim.SGD([parameter()], lr=1).state_dict()
    with pytest.raises(ValueError, match="different number of parameter groups: 1"):
        optim.SGD([{"params": [parameter()]}, {"params": [parameter()]}], lr=1).load_state_dict(
            state
        )
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group 0"):
        optim.SGD([parameter(), parameter()], lr=1).load_state_dict(state)


def test_closure_is_run_with_gradients_and_returned():
    p = nn.Parameter(fluxion.tensor([0.0]))
    optimizer = optim.SGD([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = ((p - 3) ** 2).sum()
        loss.backward()
        return loss

    with fluxion.no_grad():
        assert optimizer.step(closure).item() == 9
    assert abs(p.item() - 0.6) < 1e-6


def test_parameters_without_a_gradient_stay():
    p = nn.Parameter(fluxion.tensor([1.0]))
    for kind in KINDS.values():
        kind([p]).step()
    assert p.item() == 1


def test_step_keeps_the_parameter_object_and_memory():
    p = parameter()
    view, pointer = p.data, p.data_ptr()
    optim.Adam([p], lr=0.1).step()
    assert p.data_ptr() == pointer
    assert view.item() == p.item() != 1


def test_tensor_rate_is_read_at_every_step():
    p, rate = parameter(), fluxion.tensor(1.0)
    optimizer = optim.SGD([p], lr=rate)
    optimizer.step()
    rate.fill_(0.0)
    optimizer.step()
    assert p.item() == 0.5


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad])
def test_tensor_rate_steps_like_a_number(kind):
    p, q = parameter(), parameter()
    first, second = kind([p], lr=0.125), kind([q], lr=fluxion.tensor(0.125))
    for _ in range(3):
        first.step(), second.step()
    assert p.item() == q.item()


def test_adagrad_with_decay_equals_its_formula():
    p = parameter()
    optimizer = optim.Adagrad([p], lr=0.5, lr_decay=0.25)
    want, total = 1.0, 0.0
    for step in range(4):
        optimizer.step()
        total += 0.25
        want -= 0.5 / (1 + step * 0.25) * 0.5 / total**0.5
    assert abs(p.item() - want) < 1e-6


def test_named_parameters():
    net = nn.Linear(1, 1)
    optimizer = optim.SGD(net.named_parameters(), lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    assert optimizer.param_groups[0]["params"][0] is net.weight
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


def test_add_param_group():
    p, q = parameter(), parameter()
    optimizer = optim.SGD([p], lr=0.1)
    optimizer.add_param_group({"params": q, "lr": 0.2})
    optimizer.step()
    assert [round(x.item(), 6) for x in (p, q)] == [0.95, 0.9]
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": [p]})
    with pytest.warns(UserWarning, match="holds a parameter twice"):
        r = parameter()
        optimizer.add_param_group({"params": [r, r]})


def test_own_optimizer():
    class Sign(optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        @fluxion.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p]["count"] = self.state[p].get("count", 0) + 1
                    p.sub_(p.grad.sign() * group["lr"])

    p = parameter()
    optimizer = Sign([p], 0.25)
    log = []
    optimizer.register_step_pre_hook(lambda o, args, kwargs: log.append("before"))
    optimizer.register_step_post_hook(lambda o, args, kwargs: log.append("after"))
    optimizer.step()
    assert p.item() == 0.75
    assert optimizer.state_dict()["state"] == {0: {"count": 1}}
    assert log == ["before", "after"]
    with pytest.raises(NotImplementedError, match="Optimizer does not define step"):
        optim.Optimizer([p], {}).step()


def test_step_hooks_can_be_removed_and_replace_arguments():
    p = parameter()
    optimizer = optim.SGD([p], lr=0.1)
    seen = []
    handle = optimizer.register_step_pre_hook(
        lambda o, args, kwargs: ((args[0], lambda: seen.append(args)), {})
    )
    optimizer.step()
    handle.remove()
    optimizer.step()
    assert seen == [(optimizer,)]  # the arguments begin with the optimizer, as in PyTorch


def test_state_dict_hooks():
    optimizer = optim.SGD([parameter()], lr=0.1)
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "more": 1})
    optimizer.register_load_state_dict_pre_hook(lambda o, state: {**state, "seen": state["more"]})
    log = []
    optimizer.register_load_state_dict_post_hook(lambda o: log.append("loaded"))
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.load_state_dict(optimizer.state_dict())
    assert log == ["loaded", "loaded"]


def test_copies_have_their_own_state_and_no_hooks():
    p = parameter()
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9)
    optimizer.register_step_post_hook(lambda *args: None)
    optimizer.step()
    twin = pickle.loads(pickle.dumps(optimizer))
    assert not twin._step_post_hooks
    twin.param_groups[0]["params"][0].grad = fluxion.tensor([0.5])
    twin.step()
    assert copy.deepcopy(optimizer).param_groups[0]["lr"] == 0.1


def test_bad_options():
    p = parameter()
    with pytest.raises(TypeError, match="SGD: lr must be a number, got '0.1'"):
        optim.SGD([p], lr="0.1")
    with pytest.raises(ValueError, match=r"Adam: lr must have one element, got shape \(2,\)"):
        optim.Adam([p], lr=fluxion.tensor([0.1, 0.2]))
    with pytest.raises(ValueError, match=r"AdamW: betas must be a pair, got \(0.9,\)"):
        optim.AdamW([p], betas=(0.9,))
    inner = [optim.lr_scheduler.StepLR(optim.SGD([p], lr=1.0), 2)]
    with pytest.raises(ValueError, match="a SequentialLR can't take part"):
        sequential = optim.lr_scheduler.SequentialLR(inner[0].optimizer, inner, [])
        optim.lr_scheduler.SequentialLR(inner[0].optimizer, [sequential], [])


def test_differentiable_is_refused_by_name():
    with pytest.raises(NotImplementedError, match="AdamW: differentiable=True is not in Fluxion"):
        optim.AdamW([parameter()], differentiable=True)


def test_set_to_none():
    p = parameter()
    gradient = p.grad
    optimizer = optim.SGD([p], lr=1)
    optimizer.zero_grad(set_to_none=False)
    assert gradient.item() == 0
    optimizer.zero_grad()
    assert p.grad is None


# Schedules


def test_a_schedule_before_the_optimizer_warns_once():
    optimizer = optim.SGD([parameter()], lr=1.0)
    schedule = lr_scheduler.StepLR(optimizer, 1)
    with pytest.warns(UserWarning, match="before optimizer.step"):
        schedule.step()
    other = optim.SGD([parameter()], lr=1.0)
    schedule = lr_scheduler.StepLR(other, 1)
    assert "step" in vars(other)
    other.step()
    assert "step" not in vars(other)  # the watch is gone, and with it its cost
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule.step()


@pytest.mark.parametrize(
    "make",
    [
        lambda o: lr_scheduler.CosineAnnealingLR(o, 5),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, 2),
        lambda o: lr_scheduler.OneCycleLR(o, 1.0, 40),
        lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, 3),
        lambda o: lr_scheduler.LambdaLR(o, lambda e: 0.9**e),
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.ConstantLR(o), lr_scheduler.StepLR(o, 2)], [4]
        ),
        lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.ConstantLR(o), lr_scheduler.StepLR(o, 2)]
        ),
        lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    ],
)
def test_a_schedule_resumes(make):
    def run(schedule, optimizer, steps):
        rates = []
        for _ in range(steps):
            optimizer.step()
            plateau = isinstance(schedule, lr_scheduler.ReduceLROnPlateau)
            schedule.step(*[1.0] * plateau)
            rates.append(optimizer.param_groups[0]["lr"])
        return rates

    first = optim.SGD([parameter()], lr=0.5, momentum=0.9)
    schedule = make(first)
    run(schedule, first, 6)
    saved = copy.deepcopy([first.state_dict(), schedule.state_dict()])
    wanted = run(schedule, first, 10)
    second = optim.SGD([parameter()], lr=0.5, momentum=0.9)
    resumed = make(second)
    second.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    assert run(resumed, second, 10) == wanted


def test_resuming_needs_the_initial_rate():
    optimizer = optim.SGD([parameter()], lr=0.5)
    with pytest.raises(KeyError, match="initial_lr"):
        lr_scheduler.StepLR(optimizer, 3, last_epoch=4)
    optimizer.param_groups[0]["initial_lr"] = 0.5
    assert lr_scheduler.StepLR(optimizer, 3, last_epoch=4).last_epoch == 5


def test_schedule_of_a_tensor_rate_keeps_the_tensor():
    rate = fluxion.tensor(1.0)
    optimizer = optim.SGD([parameter()], lr=rate)
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == 0.5


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda o: lr_scheduler.StepLR("x", 1), "StepLR: expected an Optimizer, got str"),
        (lambda o: lr_scheduler.LambdaLR(o, [abs, abs]), "expected 1 values for lr_lambda"),
        (lambda o: lr_scheduler.ConstantLR(o, 2.0), "factor must be between 0 and 1"),
        (lambda o: lr_scheduler.LinearLR(o, 0.0), "start_factor must be in"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1.0), "give total_steps, or both"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1.0, 0), "total_steps must be a positive int"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1.0, 5), "needs an optimizer with momentum"),
        (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 0), "T_0 must be an int >= 1"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=1.0), "factor must be below 1"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, "mean"), "mode must be 'min' or 'max'"),
        (lambda o: lr_scheduler.SequentialLR(o, [], []), "needs at least one scheduler"),
        (
            lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 1)], [1]),
            "1 schedulers need 0 milestones, got 1",
        ),
    ],
)
def test_schedule_errors(make, text):
    optimizer = optim.RMSprop([parameter()])
    del optimizer.defaults["momentum"]
    with pytest.raises((ValueError, TypeError), match=text):
        make(optimizer)


def test_one_cycle_ends():
    optimizer = optim.SGD([parameter()], lr=0.5)
    schedule = lr_scheduler.OneCycleLR(optimizer, 1.0, 3)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    with pytest.raises(ValueError, match="step 4 is beyond the schedule's 3 steps"):
        schedule.step()
