"""Small programs that take the library as T and return plain values."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict

from .values import integers, plain, wave

PROGRAMS = {}


def program(function):
    PROGRAMS[function.__name__] = function
    return function


def _fill(T, module):
    module.double()
    with T.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.copy_(wave(T, *parameter.shape, seed=i, low=-0.6, high=0.7))
    return module


def _gradients(module):
    return {name: plain(p.grad) for name, p in module.named_parameters()}


# Attention and transformers


def _attention(T, call, grads=True, **options):
    module = _fill(T, T.nn.MultiheadAttention(6, 2, **options))
    output, weights = call(module)
    output.sum().backward()
    keys = list(module.state_dict())
    return plain(output), plain(weights), keys, _gradients(module)


@program
def attention_self(T):
    x = wave(T, 4, 3, 6)
    return _attention(T, lambda m: m(x, x, x))


@program
def attention_batch_first_without_weights(T):
    x = wave(T, 3, 4, 6)
    return _attention(T, lambda m: m(x, x, x, need_weights=False), batch_first=True, bias=False)


@program
def attention_masks(T):
    q, k = wave(T, 4, 2, 6), wave(T, 5, 2, 6, seed=2)
    mask = T.zeros(4, 5, dtype=T.bool)
    mask[0, 3:] = True
    padding = T.tensor([[False] * 4 + [True], [False] * 5])
    return _attention(T, lambda m: m(q, k, k, key_padding_mask=padding, attn_mask=mask))


@program
def attention_float_mask_per_head(T):
    x = wave(T, 3, 2, 6)
    mask = wave(T, 4, 3, 3, seed=4)
    return _attention(T, lambda m: m(x, x, x, attn_mask=mask, average_attn_weights=False))


@program
def attention_other_sizes(T):
    q, k, v = wave(T, 4, 2, 6), wave(T, 5, 2, 3, seed=1), wave(T, 5, 2, 4, seed=2)
    options = {"kdim": 3, "vdim": 4, "add_bias_kv": True, "add_zero_attn": True}
    return _attention(T, lambda m: m(q, k, v), **options)


@program
def attention_unbatched_causal(T):
    x = wave(T, 4, 6)
    mask = T.full((4, 4), -math.inf, dtype=T.float64).triu(1)
    return _attention(T, lambda m: m(x, x, x, need_weights=False, attn_mask=mask, is_causal=True))


@program
def transformer_encoder(T):
    out = []
    for norm_first in (False, True):
        layer = T.nn.TransformerEncoderLayer(
            6, 2, 8, dropout=0.0, activation="gelu", norm_first=norm_first, batch_first=True
        )
        module = _fill(T, T.nn.TransformerEncoder(layer, 2, T.nn.LayerNorm(6)))
        y = module(wave(T, 2, 3, 6), mask=T.full((3, 3), -math.inf, dtype=T.float64).triu(1))
        y.sum().backward()
        out.append([plain(y), list(module.state_dict()), _gradients(module), repr(module)])
    return out


@program
def transformer_decoder(T):
    layer = T.nn.TransformerDecoderLayer(6, 2, 8, dropout=0.0)
    module = _fill(T, T.nn.TransformerDecoder(layer, 2))
    y = module(wave(T, 3, 2, 6), wave(T, 4, 2, 6, seed=3))
    y.sum().backward()
    return plain(y), list(module.state_dict()), _gradients(module), repr(module)


@program
def scaled_dot_product_attention(T):
    f = T.nn.functional.scaled_dot_product_attention
    q, k, v = (wave(T, 2, 4, 3, 5, seed=i) for i in range(3))
    mask = wave(T, 3, 3, seed=7) > 0
    mask = mask | T.eye(3, dtype=T.bool)
    grouped = f(q, k[:, :2], v[:, :2], enable_gqa=True)
    return plain([f(q, k, v), f(q, k, v, is_causal=True, scale=0.3), f(q, k, v, mask), grouped])


# Embedding


@program
def embedding(T):
    module = _fill(T, T.nn.Embedding(6, 3, padding_idx=-1))
    y = module(integers(T, 2, 4, below=6))
    (y * y).sum().backward()
    fixed = T.nn.Embedding.from_pretrained(wave(T, 3, 2))
    limited = _fill(T, T.nn.Embedding(4, 3, max_norm=0.5, norm_type=1.0, scale_grad_by_freq=True))
    z = limited(T.tensor([1, 2, 1]))
    z.sum().backward()
    return plain(
        [y, module.weight.grad, repr(module), fixed.weight.requires_grad]
        + [z, limited.weight, limited.weight.grad, repr(limited)]
    )


# Functions without a module


@program
def functions(T):
    F = T.nn.functional
    x = wave(T, 3, 4)
    image = wave(T, 1, 2, 4, 3)
    return plain(
        {
            "one_hot": F.one_hot(integers(T, 2, 3, below=5)),
            "one_hot wide": F.one_hot(T.tensor([0, 2]), num_classes=4),
            "normalize": F.normalize(x, dim=1),
            "normalize 1": F.normalize(x, p=1.0, dim=0),
            "pad": F.pad(x, (1, 2, 0, 1), value=1.5),
            "pad crop": F.pad(x, (-1, 1)),
            "pad reflect": F.pad(image, (1, 2, 3, 0), mode="reflect"),
            "pad replicate": F.pad(image, (1, 2, 3, 0), mode="replicate"),
            "pad circular": F.pad(image, (1, 2, 3, 0), mode="circular"),
            "nearest": F.interpolate(image, size=(6, 3)),
            "nearest-exact": F.interpolate(image, scale_factor=(1.5, 0.6), mode="nearest-exact"),
            "bilinear": F.interpolate(image, scale_factor=1.7, mode="bilinear"),
            "bilinear recomputed": F.interpolate(
                image, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True
            ),
            "area": F.interpolate(image, size=(2, 3), mode="area"),
            "softmax dtype": F.softmax(x.float(), 1, dtype=T.float64),
            "local_response_norm": F.local_response_norm(image, 2, alpha=0.5),
        }
    )


@program
def losses_with_weights(T):
    F = T.nn.functional
    x, y = wave(T, 4, 5, grad=True), wave(T, 4, 5, seed=3)
    classes = integers(T, 4, below=5)
    weight = wave(T, 5, seed=1, low=0.2, high=1.5)
    targets = wave(T, 4, 5, seed=3, low=0, high=1)
    image, labels = wave(T, 2, 3, 2, 2), integers(T, 2, 2, 2, below=3)
    results = [
        F.cross_entropy(x, classes, weight),
        F.cross_entropy(x, classes, weight, label_smoothing=0.3, ignore_index=0),
        F.cross_entropy(image, labels),
        F.cross_entropy(image, labels, reduction="none"),
        F.cross_entropy(x[0], classes[0]),
        F.cross_entropy(x, T.softmax(y, 1), weight),
        F.nll_loss(x, classes, weight),
        F.nll_loss(image, labels, reduction="sum"),
        F.binary_cross_entropy_with_logits(x, targets, weight, pos_weight=weight * 2),
        F.binary_cross_entropy(T.sigmoid(x), targets, weight, reduction="none"),
        F.mse_loss(x, y, weight=weight.expand(4, 5)),
        F.l1_loss(x, y, weight=weight.expand(4, 5)),
        F.huber_loss(x, y, weight=weight.expand(4, 5), delta=0.4),
        F.margin_ranking_loss(x[:, 0], x[:, 1], y[:, 0].sign(), margin=0.3),
        F.cosine_embedding_loss(x, y, T.tensor([1, -1, 1, -1]), margin=0.1),
        F.triplet_margin_loss(x, y, wave(T, 4, 5, seed=9), swap=True),
        F.gaussian_nll_loss(x, y, targets + 0.1, full=True),
        F.gaussian_nll_loss(x, y, 0.5),
        F.poisson_nll_loss(x, targets, reduction="none"),
    ]
    sum(r.sum() for r in results).backward()
    return plain([r.detach() for r in results]), plain(x.grad)


# Module protocol


def _net(T):
    class Net(T.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = T.nn.ModuleList([T.nn.Linear(2, 2), T.nn.Linear(2, 2, bias=False)])
            self.table = T.nn.ModuleDict({"a": T.nn.ReLU(), "b": T.nn.BatchNorm1d(2)})
            self.tied = self.body[0]
            self.scale = T.nn.Parameter(T.ones(1))
            self.none = None
            self.register_parameter("absent", None)
            self.register_buffer("kept", T.zeros(2))
            self.register_buffer("temporary", T.zeros(3), persistent=False)
            self.extra = T.nn.Buffer(T.ones(2))

        def forward(self, x):
            return self.table["b"](self.body[1](self.tied(x))) * self.scale

    return Net()


@program
def names(T):
    net = _net(T)
    return {
        "parameters": [n for n, _ in net.named_parameters()],
        "own": [n for n, _ in net.named_parameters(recurse=False)],
        "prefixed": [n for n, _ in net.named_parameters("net")],
        "with ties": [n for n, _ in net.named_parameters(remove_duplicate=False)],
        "buffers": [n for n, _ in net.named_buffers()],
        "modules": [n for n, _ in net.named_modules()],
        "all modules": [n for n, _ in net.named_modules(remove_duplicate=False)],
        "children": [n for n, _ in net.named_children()],
        "state": list(net.state_dict()),
        "prefixed state": list(net.state_dict(prefix="net.")),
        "metadata": {k: v["version"] for k, v in net.state_dict()._metadata.items()},
        "applied": _applied(net),
        "repr": repr(net),
        "dir": [n for n in dir(net) if n in ("body", "scale", "kept", "forward", "0")],
        "submodule": repr(net.get_submodule("body.1")),
        "parameter": list(net.get_parameter("body.0.weight").shape),
        "buffer": list(net.get_buffer("table.b.running_mean").shape),
    }


def _applied(net):
    seen = []
    net.apply(lambda module: seen.append(type(module).__name__))
    return seen


@program
def attribute_rules(T):
    net = _net(T)
    out = {}
    net.scale = None
    out["scale"] = [n for n, _ in net.named_parameters()]
    net.none = T.nn.Parameter(T.ones(2))
    out["none becomes a parameter"] = [n for n, _ in net.named_parameters()]
    net.none = None
    out["and none again"] = "none" in dict(net.named_parameters())
    net.kept = T.ones(5)
    out["buffer"] = list(net.state_dict()["kept"].shape)
    del net.tied
    out["deleted"] = [n for n, _ in net.named_modules()]
    net.body = T.nn.Linear(1, 1)
    out["replaced"] = list(net.state_dict())
    net.kept = T.nn.ReLU()  # a name may change its kind, but not from parameter to module to buffer
    net.table = T.nn.Parameter(T.ones(1))
    out["kind changed"] = [list(net.state_dict()), [n for n, _ in net.named_children()]]
    return out


@program
def attribute_errors(T):
    net = _net(T)
    bare = type("Bare", (T.nn.Module,), {"__init__": lambda self: None})()

    def attempt(action):
        try:
            action()
        except Exception as error:
            return type(error).__name__
        return "fine"

    nn, p = T.nn, T.nn.Parameter(T.ones(1))
    return {
        "tensor as parameter": attempt(lambda: setattr(net, "scale", T.ones(1))),
        "module as parameter": attempt(lambda: setattr(net, "scale", nn.ReLU())),
        "buffer as parameter": attempt(lambda: setattr(net, "scale", nn.Buffer(T.ones(1)))),
        "buffer as module": attempt(lambda: setattr(net, "body", nn.Buffer(T.ones(1)))),
        "tensor as module": attempt(lambda: setattr(net, "body", T.ones(1))),
        "number as buffer": attempt(lambda: setattr(net, "kept", 3)),
        "before init": attempt(lambda: setattr(bare, "x", p)),
        "module before init": attempt(lambda: setattr(bare, "x", nn.ReLU())),
        "missing": attempt(lambda: net.nothing),
        "delete missing": attempt(lambda: delattr(net, "nothing")),
        "dotted parameter": attempt(lambda: net.register_parameter("a.b", p)),
        "empty name": attempt(lambda: net.register_parameter("", p)),
        "taken name": attempt(lambda: net.register_parameter("forward", p)),
        "not a parameter": attempt(lambda: net.register_parameter("q", T.ones(1))),
        "not a leaf": attempt(lambda: nn.Module().register_parameter("q", p * 2)),
        "buffer type": attempt(lambda: net.register_buffer("q", 3)),
        "buffer name": attempt(lambda: net.register_buffer("a.b", T.ones(1))),
        "taken buffer": attempt(lambda: net.register_buffer("scale", T.ones(1))),
        "buffer again": attempt(lambda: net.register_buffer("kept", T.ones(1))),
        "module type": attempt(lambda: net.add_module("q", T.ones(1))),
        "module name": attempt(lambda: net.add_module("a.b", nn.ReLU())),
        "taken module": attempt(lambda: net.add_module("scale", nn.ReLU())),
        "no forward": attempt(lambda: nn.Module()(1)),
        "call list": attempt(lambda: nn.ModuleList()(1)),
        "submodule": attempt(lambda: net.get_submodule("body.7")),
        "parameter": attempt(lambda: net.get_parameter("body.0.nothing")),
        "buffer of": attempt(lambda: net.get_buffer("scale")),
        "train": attempt(lambda: net.train(1)),
        "to int": attempt(lambda: net.to(T.int32)),
        "index": attempt(lambda: net.body[2]),
        "dropout": attempt(lambda: nn.Dropout(1.5)),
        "conv groups": attempt(lambda: nn.Conv2d(3, 4, 2, groups=2)),
        "conv padding": attempt(lambda: nn.Conv2d(3, 4, 2, padding="full")),
        "conv same": attempt(lambda: nn.Conv2d(3, 4, 2, padding="same", stride=2)),
        "batch norm rank": attempt(lambda: nn.BatchNorm2d(3)(T.ones(2, 3))),
        "batch norm one": attempt(lambda: nn.BatchNorm1d(3)(T.ones(1, 3))),
        "group norm": attempt(lambda: nn.GroupNorm(2, 3)),
        "embedding": attempt(lambda: nn.Embedding(3, 2, padding_idx=3)),
        "heads": attempt(lambda: nn.MultiheadAttention(5, 2)),
        "reduction": attempt(lambda: nn.L1Loss(reduction="max")(T.ones(1), T.ones(1))),
        "bce shape": attempt(lambda: nn.BCELoss()(T.ones(2), T.ones(3))),
        "nll shape": attempt(lambda: nn.NLLLoss()(T.ones(2, 3), T.zeros(4).long())),
        "pad mode": attempt(lambda: T.nn.functional.pad(T.ones(1, 2), (1, 1), "other")),
        "one_hot": attempt(lambda: T.nn.functional.one_hot(T.tensor([3]), 2)),
        "one_hot negative": attempt(lambda: T.nn.functional.one_hot(T.tensor([-1]))),
        "clip": attempt(lambda: nn.utils.clip_grad_norm_(_infinite(T), 1, 2, True)),
        "no parameters": attempt(lambda: T.optim.SGD([], lr=1)),
        "tensor parameters": attempt(lambda: T.optim.SGD(p, lr=1)),
        "negative rate": attempt(lambda: T.optim.SGD([p], lr=-1)),
        "nesterov": attempt(lambda: T.optim.SGD([p], lr=1, nesterov=True)),
        "beta": attempt(lambda: T.optim.Adam([p], betas=(1.0, 0.9))),
        "twice": attempt(lambda: T.optim.SGD([{"params": p}, {"params": p}], lr=1)),
        "set": attempt(lambda: T.optim.SGD([{"params": {p}}], lr=1)),
        "number": attempt(lambda: T.optim.SGD([1], lr=1)),
        "non-leaf": attempt(lambda: T.optim.SGD([p * 1], lr=1)),
    }


def _infinite(T):
    p = T.nn.Parameter(T.ones(1))
    p.grad = T.tensor([math.inf])
    return [p]


@program
def containers(T):
    nn = T.nn
    parts = [nn.Linear(1, 1), nn.ReLU(), nn.Tanh()]
    seq = nn.Sequential(OrderedDict([("a", nn.ReLU()), ("b", nn.Tanh())]))
    out = {"named": repr(seq), "index": repr(seq[1]), "slice": repr(seq[:1]), "len": len(seq)}
    seq = nn.Sequential(*parts)
    seq.append(nn.SiLU())
    seq.insert(1, nn.GELU())
    del seq[0]
    seq[0] = nn.ELU()
    out["edited"] = repr(seq)
    out["popped"] = repr(seq.pop(1)) + repr(seq)
    out["sum"] = repr(nn.Sequential(nn.ReLU()) + nn.Sequential(nn.Tanh()))
    out["product"] = repr(nn.Sequential(nn.ReLU()) * 2)
    out["extended"] = repr(nn.Sequential(nn.ReLU()).extend(nn.Sequential(nn.Tanh())))
    many = nn.ModuleList([nn.ReLU() for _ in range(3)] + [nn.Tanh()])
    many += [nn.ReLU()]
    many.insert(0, nn.SiLU())
    out["list"] = repr(many)
    del many[1:3]
    out["list cut"] = repr(many) + str(len(many)) + str(many[-1]) + repr(many[1:])
    out["list sum"] = repr(many + nn.ModuleList([nn.ELU()]))
    table = nn.ModuleDict([("x", nn.ReLU())])
    table.update({"y": nn.Tanh(), "x": nn.ELU()})
    out["dict"] = [repr(table), list(table), "x" in table, repr(table.pop("x")), len(table)]
    values = nn.ParameterList([T.ones(2), nn.Parameter(T.zeros(1, 3)), 5])
    out["parameter list"] = [len(values), [n for n, _ in values.named_parameters()], values[-1]]
    out["parameter list"].append(list(values[:2].state_dict()))
    named = nn.ParameterDict({"a": T.ones(2), "b": nn.Parameter(T.zeros(3))})
    named["c"] = T.ones(1)
    del named["a"]
    out["parameter dict"] = [list(named), list(named.state_dict()), len(named), "a" in named]
    out["empty"] = [repr(nn.Sequential()), repr(nn.ModuleList()), repr(nn.ModuleDict())]
    return out


@program
def copying(T):
    net = _net(T)
    twin = copy.deepcopy(net)
    with T.no_grad():
        net.scale.fill_(5)
    same = twin.tied is twin.body[0]
    names = [n for n, _ in twin.named_parameters()]
    return plain([twin.scale, same, names, twin.scale.requires_grad, type(twin.scale).__name__])


@program
def conversions(T):
    net = _net(T)
    first = net.scale
    net(T.ones(4, 2)).sum().backward()
    net.double()
    dtypes = {str(v.dtype).split(".")[1] for v in net.state_dict().values()}
    half = net.half().scale
    types = {n: str(b.dtype).split(".")[1] for n, b in net.named_buffers()}
    net.to(T.float32).to("cpu").to(T.ones(1, dtype=T.float64)).cpu().bfloat16().float()
    net.requires_grad_(False)
    net.train().eval()
    net.zero_grad()
    return {
        "same object": first is net.scale and half is first,
        "dtypes": sorted(dtypes),
        "buffers": types,
        "frozen": any(p.requires_grad for p in net.parameters()),
        "training": [m.training for m in net.modules()],
        "gradients": [p.grad is None for p in net.parameters()],
        "gradient dtype": str(net.scale.dtype).split(".")[1],
    }


@program
def loading(T):
    net, other = _net(T), _net(T)
    with T.no_grad():
        for p in other.parameters():
            p.fill_(3)
    state = other.state_dict()
    ok = str(net.load_state_dict(state))
    out = {"ok": ok, "loaded": plain(net.scale)}
    del state["scale"]
    state["other"] = T.ones(1)
    state["body.7.weight"] = T.ones(1)
    keys = net.load_state_dict(state, strict=False)
    out["missing"], out["unexpected"] = list(keys.missing_keys), list(keys.unexpected_keys)
    out["tuple"] = len(keys)
    for wrong in (state, {**other.state_dict(), "kept": T.ones(7)}, 3):
        try:
            net.load_state_dict(wrong)
        except Exception as error:
            out[str(len(out))] = type(error).__name__
    before = net.scale
    net.load_state_dict(other.state_dict(), assign=True)
    out["assigned"] = before is net.scale
    out["shares"] = net.scale.data_ptr() == other.scale.data_ptr()
    old = {k: v for k, v in other.state_dict().items() if "num_batches" not in k}
    out["old batch norm"] = list(_net(T).load_state_dict(old).missing_keys)
    return out


@program
def hooks(T):
    log = []
    net = T.nn.Sequential(T.nn.Linear(2, 2), T.nn.ReLU())
    _fill(T, net)
    first = net[0]
    x = wave(T, 1, 2)
    h1 = first.register_forward_hook(lambda m, a, o: log.append(["post", plain(o)]))
    first.register_forward_hook(lambda m, a, o: o * 2, prepend=True)
    first.register_forward_pre_hook(lambda m, a: (a[0] + 1,))
    first.register_forward_pre_hook(lambda m, a, k: log.append(["pre", plain(a)]), with_kwargs=True)
    out = [plain(net(x))]
    h1.remove()
    with first.register_forward_hook(lambda m, a, k, o: o + 100, with_kwargs=True):
        out.append(plain(net(x)))
    out.append(plain(net(x)))
    first.register_forward_hook(lambda m, a, o: log.append("always"), always_call=True)
    try:
        net(wave(T, 1, 3))
    except RuntimeError:
        log.append("failed")
    return out, log


@program
def backward_hooks(T):
    log = []
    net = _fill(T, T.nn.Sequential(T.nn.Linear(2, 3), T.nn.Tanh(), T.nn.Linear(3, 1)))
    net[1].register_full_backward_hook(lambda m, gi, go: log.append([plain(gi), plain(go)]))
    net[2].register_full_backward_pre_hook(lambda m, go: (go[0] * 2,))
    net[0].register_full_backward_hook(lambda m, gi, go: log.append([gi[0] is None, plain(go)]))
    net(wave(T, 2, 2)).sum().backward()
    handle = net[2].register_full_backward_hook(lambda m, gi, go: (gi[0] * 0,))
    first = plain(net[0].weight.grad)
    net.zero_grad()
    net(wave(T, 2, 2)).sum().backward()
    handle.remove()
    return log, first, plain(net[0].weight.grad), plain(net[2].weight.grad)


@program
def state_hooks(T):
    net = T.nn.Linear(1, 1)
    log = []
    net.register_state_dict_pre_hook(lambda m, prefix, keep: log.append(["before", prefix, keep]))
    net.register_state_dict_post_hook(lambda m, sd, prefix, meta: sd.update(more=T.ones(1)))
    net.register_load_state_dict_pre_hook(lambda m, sd, *rest: sd.pop("more", None) and None)
    net.register_load_state_dict_post_hook(lambda m, keys: log.append(list(keys.missing_keys)))
    state = net.state_dict()
    net.load_state_dict(state)
    return log, list(state)


@program
def extra_state(T):
    class Counting(T.nn.Module):
        def __init__(self):
            super().__init__()
            self.count = 3

        def get_extra_state(self):
            return {"count": self.count}

        def set_extra_state(self, state):
            self.count = state["count"]

    net = T.nn.Sequential(Counting())
    state = net.state_dict()
    net[0].count = 0
    net.load_state_dict(state)
    try:
        net.load_state_dict({})
    except RuntimeError:
        return list(state), net[0].count, "missing"


# Initialisation and utilities


@program
def initial_bounds(T):
    """What default initialisation draws from: bounds or deviations over many draws are near the formula's."""
    init = T.nn.init
    weight = T.empty(30, 20, 3)
    out = {"fans": list(init._calculate_fan_in_and_fan_out(weight))}
    names = "linear conv2d sigmoid tanh relu leaky_relu selu".split()
    out["gains"] = [init.calculate_gain(name) for name in names]
    out["slope"] = init.calculate_gain("leaky_relu", 0.3)

    def spread(tensor):
        return round(float(tensor.abs().max()), 2), round(float(tensor.double().std()), 1)

    big = T.empty(200, 300)
    out["xavier"] = spread(init.xavier_uniform_(big, gain=2.0))[0]
    out["kaiming"] = spread(init.kaiming_uniform_(big, a=0.5, mode="fan_out"))[0]
    out["normal"] = spread(init.kaiming_normal_(big))[1]
    out["xavier normal"] = spread(init.xavier_normal_(big, gain=10.0))[1]
    out["trunc"] = spread(init.trunc_normal_(big, 0.0, 1.0, -1.0, 1.0))
    q = init.orthogonal_(T.empty(5, 8, dtype=T.float64))
    out["orthogonal"] = float((q @ q.t() - T.eye(5, dtype=T.float64)).abs().max()) < 1e-10
    out["tall"] = list(init.orthogonal_(T.empty(8, 2, 2), gain=2.0).shape)
    out["eye"] = plain(init.eye_(T.empty(2, 3)))
    out["dirac"] = plain(init.dirac_(T.empty(4, 2, 3), groups=2))
    out["sparse"] = sorted({int((column == 0).sum()) for column in init.sparse_(big, 0.1).t()})
    out["constant"] = plain(init.constant_(T.empty(2), 3.0))
    linear = T.nn.Linear(400, 300)
    out["linear"] = [spread(linear.weight)[0], spread(linear.bias)[0]]
    conv = T.nn.Conv2d(8, 64, 5)
    out["conv"] = [spread(conv.weight)[0], spread(conv.bias)[0]]
    out["embedding"] = spread(T.nn.Embedding(300, 200).weight)[1]
    attention = T.nn.MultiheadAttention(200, 2)
    out["attention"] = [spread(attention.in_proj_weight)[0], plain(attention.in_proj_bias.sum())]
    return out


def _with_gradients(T):
    ps = [T.nn.Parameter(wave(T, *shape, seed=i)) for i, shape in enumerate(((2, 2), (3,), (1,)))]
    for i, p in enumerate(ps[:2]):
        p.grad = wave(T, *p.shape, seed=i + 3)
    return ps


@program
def gradient_clipping(T):
    utils = T.nn.utils
    out = []
    for max_norm, kind in ((1.0, 2.0), (100.0, 2.0), (0.5, math.inf), (1.0, 1.0)):
        ps = _with_gradients(T)
        norm = utils.clip_grad_norm_(ps, max_norm, kind)
        out.append([plain(norm), [plain(p.grad) for p in ps[:2]]])
    ps = _with_gradients(T)
    utils.clip_grad_value_(ps, 0.7)
    out.append([plain(p.grad) for p in ps[:2]])
    out.append(plain(utils.get_total_norm([p.grad for p in ps[:2]])))
    return out


@program
def parameter_vectors(T):
    ps = _with_gradients(T)
    vector = T.nn.utils.parameters_to_vector(ps)
    T.nn.utils.vector_to_parameters(vector.detach() * 2, ps)
    return plain(vector), plain(ps)


@program
def transformer(T):
    module = T.nn.Transformer(6, 2, 2, 2, 10, 0.0, "gelu", batch_first=True, norm_first=True)
    module = _fill(T, module)
    src, tgt = wave(T, 2, 4, 6, grad=True), wave(T, 2, 3, 6, seed=1)
    mask = T.nn.Transformer.generate_square_subsequent_mask(3).double()
    padding = T.tensor([[False, False, False, True], [False] * 4])
    out = module(
        src,
        tgt,
        tgt_mask=mask,
        src_key_padding_mask=padding,
        memory_key_padding_mask=padding,
    )
    out.square().sum().backward()
    wrong = (
        _kind(lambda: module(src, wave(T, 3, 3, 6))),
        _kind(lambda: module(src, wave(T, 2, 3, 5))),
    )
    return plain(out), plain(src.grad), list(module.state_dict()), plain(mask), wrong


# Protocols: hooks of all modules, gradients that stay, optimizer arguments


def _kind(call):
    """The type of what a call raises, or its result."""
    try:
        return plain(call())
    except Exception as error:
        return type(error).__name__


@program
def hooks_of_all_modules(T):
    log = []
    where = T.nn.modules.module
    model = _fill(T, T.nn.Sequential(T.nn.Linear(2, 2), T.nn.Tanh()))
    model[0].register_forward_hook(lambda m, a, y: log.append(["own", type(m).__name__]))
    handles = [
        where.register_module_forward_pre_hook(lambda m, a: log.append(["pre", type(m).__name__])),
        where.register_module_forward_hook(lambda m, a, y: y * 2),
        where.register_module_forward_hook(
            lambda m, a, k, y: log.append(["keywords", len(a), len(k)]), with_kwargs=True
        ),
        where.register_module_full_backward_pre_hook(lambda m, g: log.append(["before", len(g)])),
        where.register_module_full_backward_hook(
            lambda m, i, o: log.append(["after", type(m).__name__, len(i), len(o)])
        ),
    ]
    x = wave(T, 3, 2, grad=True)
    y = model(x)
    y.sum().backward()
    for handle in handles:
        handle.remove()
    count = len(log)
    model(x)
    return plain(y), plain(x.grad), log, len(log) - count


@program
def backward_hooks_need_tensor_outputs(T):
    log = []

    class Pair(T.nn.Module):
        def forward(self, x):
            return {"y": x * 2}

    module = Pair()
    module.register_full_backward_hook(lambda m, i, o: log.append("called"))
    x = wave(T, 2, grad=True)
    module(x)["y"].sum().backward()
    return plain(x.grad), log


@program
def zeroed_gradients_stay_the_same_object(T):
    out = []
    for owner in ("module", "optimizer"):
        module = T.nn.Linear(2, 1)
        owner = module if owner == "module" else T.optim.SGD(module.parameters(), lr=1.0)
        module(T.ones(1, 2)).sum().backward()
        (g,) = T.autograd.grad((module.bias**3).sum(), module.bias, create_graph=True)
        module.bias.grad = g
        kept = [p.grad for p in module.parameters()]
        owner.zero_grad(set_to_none=False)
        out.append([p.grad is g for p, g in zip(module.parameters(), kept)])
        out.append([plain(kept), [g.requires_grad for g in kept], [g.is_leaf for g in kept]])
    return out


@program
def parameters_that_are_none(T):
    module = T.nn.Linear(2, 2, bias=False)
    module.register_buffer("nothing", None)
    return _kind(lambda: module.get_parameter("bias")), _kind(lambda: module.get_buffer("nothing"))


@program
def optimizer_arguments(T):
    p, q = (T.nn.Parameter(T.ones(1)) for _ in range(2))
    sgd = T.optim.SGD
    out = [
        _kind(lambda: sgd([("p", p), q], lr=1.0)),
        _kind(lambda: sgd([{"params": [("p", p)]}, {"params": [q]}], lr=1.0)),
        _kind(lambda: sgd([{"params": [p]}, {"params": [("q", q)]}], lr=1.0)),
        _kind(lambda: T.optim.Adam([p], lr=T.tensor([0.1, 0.2]))),
    ]
    named = sgd([{"params": [("p", p)]}, {"params": [("q", q)]}], lr=1.0)
    out.append([group["param_names"] for group in named.state_dict()["param_groups"]])
    calls = []
    named.register_step_pre_hook(lambda o, args, kwargs: calls.append([args[0] is o, len(args)]))
    named.register_step_post_hook(lambda o, args, kwargs: calls.append([args[0] is o, len(args)]))
    named.step()
    named.step(lambda: 1)
    return out, calls


@program
def lists_of_parameters_print(T):
    lists = T.nn.ParameterList([T.ones(2), T.nn.Parameter(T.ones(1, 3))])
    return repr(lists).replace(str(T.float32), "float32")
