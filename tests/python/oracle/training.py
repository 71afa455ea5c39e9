"""Optimizers and schedules: parameter values and rates over some steps."""

from __future__ import annotations

from .values import plain, wave

OPTIMIZERS = {
    "SGD": lambda o, p: o.SGD(p, lr=0.1),
    "SGD decay": lambda o, p: o.SGD(p, lr=0.1, weight_decay=0.2, maximize=True),
    "SGD momentum": lambda o, p: o.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.1),
    "SGD nesterov": lambda o, p: o.SGD(p, lr=0.1, momentum=0.8, nesterov=True),
    "Adam": lambda o, p: o.Adam(p, lr=0.1),
    "Adam all": lambda o, p: o.Adam(
        p, 0.05, (0.8, 0.95), 1e-6, weight_decay=0.1, amsgrad=True, maximize=True
    ),
    "AdamW": lambda o, p: o.AdamW(p, lr=0.1, weight_decay=0.3),
    "AdamW amsgrad": lambda o, p: o.AdamW(p, lr=0.1, amsgrad=True),
    "RMSprop": lambda o, p: o.RMSprop(p, lr=0.05),
    "RMSprop all": lambda o, p: o.RMSprop(
        p, 0.05, 0.9, weight_decay=0.1, momentum=0.7, centered=True
    ),
    "Adadelta": lambda o, p: o.Adadelta(p),
    "Adadelta all": lambda o, p: o.Adadelta(p, 0.5, 0.8, 1e-5, weight_decay=0.1, maximize=True),
    "Adagrad": lambda o, p: o.Adagrad(p, lr=0.2),
    "Adagrad all": lambda o, p: o.Adagrad(
        p, 0.2, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.2
    ),
}

SCHEDULES = {
    "LambdaLR": lambda S, o: S.LambdaLR(o, [lambda e: 0.95**e, lambda e: 1 / (1 + e)]),
    "MultiplicativeLR": lambda S, o: S.MultiplicativeLR(o, lambda e: 0.95),
    "StepLR": lambda S, o: S.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda S, o: S.MultiStepLR(o, [2, 5, 5, 9], 0.5),
    "ConstantLR": lambda S, o: S.ConstantLR(o, 0.5, 4),
    "LinearLR": lambda S, o: S.LinearLR(o, 0.25, 0.9, 6),
    "ExponentialLR": lambda S, o: S.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda S, o: S.CosineAnnealingLR(o, 5, 0.001),
    "CosineAnnealingWarmRestarts": lambda S, o: S.CosineAnnealingWarmRestarts(o, 3, 2, 0.001),
    "OneCycleLR": lambda S, o: S.OneCycleLR(o, [0.5, 0.3], 40),
    "OneCycleLR three": lambda S, o: S.OneCycleLR(
        o, 0.5, epochs=8, steps_per_epoch=5, three_phase=True, anneal_strategy="linear"
    ),
    "CyclicLR": lambda S, o: S.CyclicLR(o, 0.01, 0.1, 4, 3, mode="triangular2"),
    "CyclicLR exp": lambda S, o: S.CyclicLR(o, 0.01, 0.1, 4, 3, mode="exp_range", gamma=0.97),
    "PolynomialLR": lambda S, o: S.PolynomialLR(o, 8, 2.0),
    "SequentialLR": lambda S, o: S.SequentialLR(
        o, [S.ConstantLR(o, 0.1, 3), S.ExponentialLR(o, 0.9), S.CosineAnnealingLR(o, 4)], [3, 7]
    ),
    "warm-up": lambda S, o: S.SequentialLR(
        o, [S.LinearLR(o, 0.1, 1.0, 5), S.CosineAnnealingWarmRestarts(o, 4)], [5]
    ),
    "ChainedScheduler": lambda S, o: S.ChainedScheduler(
        [S.ConstantLR(o, 0.1, 3), S.ExponentialLR(o, 0.9)], o
    ),
    "two at once": lambda S, o: (S.StepLR(o, 4, 0.5), S.ExponentialLR(o, 0.9))[1],
}

METRICS = [5, 4, 4, 4, 3.9999, 3.99, 3, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 2, 2]
PLATEAUS = [
    {"patience": 2},
    {"patience": 1, "cooldown": 2, "factor": 0.5},
    {"mode": "max", "patience": 3, "threshold_mode": "abs"},
    {"patience": 0, "min_lr": 0.2, "factor": 0.3},
]


def run_optimizer(T, name):
    """Two groups; one parameter gets its first gradient late; the rate changes on the way."""
    shapes = ((2, 3), (4,), (1,), ())
    ps = [T.nn.Parameter(wave(T, *shape, seed=i)) for i, shape in enumerate(shapes)]
    groups = [{"params": ps[:2]}, {"params": ps[2:], "lr": 0.03}]
    optimizer = OPTIMIZERS[name](T.optim, groups)
    out = []
    for step in range(6):
        optimizer.zero_grad(set_to_none=step % 2 == 0)
        for i, p in enumerate(ps):
            if i != 1 or step > 2:
                p.grad = wave(T, *p.shape, seed=10 * step + i)
        if step == 4:
            optimizer.param_groups[0]["lr"] *= 0.5
        optimizer.step()
        out.append(plain(ps))
    state = optimizer.state_dict()
    entries = {k: sorted(v) for k, v in state["state"].items()}
    options = [{k: v for k, v in group.items()} for group in state["param_groups"]]
    return out, plain(state["state"]), entries, plain(options), repr(optimizer)


def run_schedule(T, name):
    """Rates and momenta of two groups over 25 steps, with two kinds of optimizer."""
    out = []
    for kind, options in (("SGD", {"momentum": 0.9}), ("Adam", {})):
        ps = [T.zeros(1, requires_grad=True) for _ in range(2)]
        groups = [{"params": ps[:1]}, {"params": ps[1:], "lr": 0.07}]
        optimizer = getattr(T.optim, kind)(groups, lr=0.1, **options)
        schedule = SCHEDULES[name](T.optim.lr_scheduler, optimizer)
        for _ in range(25):
            rates = [group["lr"] for group in optimizer.param_groups]
            momenta = [g.get("momentum", g.get("betas")) for g in optimizer.param_groups]
            out.append(plain([rates, momenta if "ycl" in name else None]))
            out[-1].append(rates == schedule.get_last_lr())
            optimizer.step()
            schedule.step()
    return out


def run_plateau(T, index):
    optimizer = T.optim.SGD([T.zeros(1, requires_grad=True)], lr=1.0)
    schedule = T.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **PLATEAUS[index])
    out = []
    for metric in METRICS:
        schedule.step(metric)
        out.append([optimizer.param_groups[0]["lr"], schedule.num_bad_epochs, schedule.best])
    return out
