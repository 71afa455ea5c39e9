"""What a module does beyond PyTorch's results: messages, paths in errors, pickling, cost of a call."""

import copy
import pickle
import threading
import warnings

import pytest

import fluxion
from fluxion import nn


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(2, 2), nn.Linear(3, 2))])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()

    def forward(self, x):
        return self.encoder(x)


def raised(function, kind=Exception):
    with pytest.raises(kind) as info:
        function()
    return info.value


# Errors


def test_error_names_the_module_path_once():
    error = raised(lambda: Net()(fluxion.ones(1, 2)))
    assert error.__notes__ == ["[encoder.layers.0.1]"]


def test_error_in_the_outermost_module_names_its_class():
    class Broken(nn.Module):
        def forward(self):
            raise ValueError("no")

    error = raised(Broken(), ValueError)
    assert error.__notes__ == ["[Broken]"]
    assert str(error) == "no"


def test_error_keeps_notes_of_its_own():
    class Noted(nn.Module):
        def forward(self):
            error = KeyError("x")
            error.add_note("mine")
            raise error

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Noted()

        def forward(self):
            return self.inner()

    assert raised(Outer()).__notes__ == ["mine", "[inner]"]


def test_error_through_a_module_that_is_no_ancestor():
    foreign = nn.Linear(2, 2)

    class Caller(nn.Module):
        def forward(self, x):
            return foreign(x)

    assert raised(lambda: Caller()(fluxion.ones(1, 3))).__notes__ == ["[Linear]"]


def test_exceptions_without_attributes_pass():
    class Slotted(Exception):
        def __setattr__(self, name, value):
            raise AttributeError(name)

    class Broken(nn.Module):
        def forward(self):
            raise Slotted

    raised(Broken(), Slotted)


def test_load_state_dict_suggests_the_nearest_missing_name():
    net = Net()
    state = net.state_dict()
    state["encoder.layers.0.0.weigth"] = state.pop("encoder.layers.0.0.weight")
    state["encoder.layers.0.0.bias"] = fluxion.ones(5)
    text = str(raised(lambda: net.load_state_dict(state), RuntimeError))
    assert text == (
        "Error(s) in loading state_dict for Net:\n"
        '\tMissing key(s) in state_dict: "encoder.layers.0.0.weight"\n'
        '\tUnexpected key(s) in state_dict: "encoder.layers.0.0.weigth" '
        '(did you mean "encoder.layers.0.0.weight"?)\n'
        "\tsize mismatch for encoder.layers.0.0.bias: the state_dict has shape (5,), "
        "the module has (2,)"
    )


def test_load_state_dict_sees_a_prefix_too_many():
    net = nn.Linear(2, 2)
    state = {f"module.{name}": value for name, value in net.state_dict().items()}
    text = str(raised(lambda: net.load_state_dict(state), RuntimeError))
    assert 'Unexpected key(s) in state_dict: "module.weight" (did you mean "weight"?), ' in text


MESSAGES = {
    "Parameter: data must be a Tensor, got list; use fluxion.tensor(data)": (
        lambda: nn.Parameter([1.0])
    ),
    "Buffer: data must be a Tensor, got int": lambda: nn.Buffer(1),
    "binary_cross_entropy: all elements of input must be between 0 and 1, got -0.5 to 1.0; "
    "binary_cross_entropy_with_logits takes any scores as input": (
        lambda: nn.BCELoss()(fluxion.tensor([1.0, -0.5]), fluxion.ones(2))
    ),
    "binary_cross_entropy: all elements of target must be between 0 and 1, got nan to nan": (
        lambda: nn.BCELoss()(fluxion.ones(1), fluxion.tensor([float("nan")]))
    ),
    "gaussian_nll_loss: var must have the input's shape (4, 2), or 1 as its last size or no last "
    "dim, got (7,)": (
        lambda: nn.GaussianNLLLoss()(fluxion.ones(4, 2), fluxion.ones(4, 2), fluxion.ones(7))
    ),
    "margin_ranking_loss: inputs and target must have as many dims as each other, got "
    "[(2,), (2, 1), (2,)]": (
        lambda: nn.MarginRankingLoss()(fluxion.ones(2), fluxion.ones(2, 1), fluxion.ones(2))
    ),
    "cannot assign int as parameter 'weight' of Linear: expected Parameter or None": (
        lambda: setattr(nn.Linear(1, 1), "weight", 3)
    ),
    "cannot assign child module 'a' before Module.__init__() call: begin Early.__init__ with "
    "super().__init__()": lambda: Early(),
    "attribute 'forward' already exists in Linear": (
        lambda: nn.Linear(1, 1).register_buffer("forward", None)
    ),
    "Linear has no child module 'x' (looking for 'x.y')": (
        lambda: nn.Linear(1, 1).get_submodule("x.y")
    ),
    "Embedding: sparse=True is not in Fluxion yet": lambda: nn.Embedding(2, 2, sparse=True),
    "Dropout: p must be a probability between 0 and 1, got 2": lambda: nn.Dropout(2),
    "BatchNorm2d: input must have 4 dims, got shape (2, 3)": (
        lambda: nn.BatchNorm2d(3)(fluxion.ones(2, 3))
    ),
    "GroupNorm: num_channels 3 must be divisible by num_groups 2": lambda: nn.GroupNorm(2, 3),
    "index 3 is out of range for ModuleList of 1": lambda: nn.ModuleList([nn.ReLU()])[3],
    "Module.to: dtype must be floating point, got": lambda: nn.ReLU().to(fluxion.int64),
    'Module has no "forward": define `def forward(self, ...)`': lambda: nn.Module()(),
}


class Early(nn.Module):
    def __init__(self):
        self.a = nn.ReLU()


@pytest.mark.parametrize("text", MESSAGES)
def test_message(text):
    error = raised(MESSAGES[text])
    assert text in (error.args[0] if isinstance(error, KeyError) else str(error))


# Protocol details


def test_views_of_members_are_live():
    net = nn.Linear(2, 2)
    net._modules["extra"] = nn.ReLU()
    net._parameters["weight"] = nn.Parameter(fluxion.zeros(2, 2))
    assert isinstance(net.extra, nn.ReLU)
    assert net.weight.sum() == 0
    assert list(net._parameters) == ["weight", "bias"]
    del net._parameters["bias"]
    assert not hasattr(net, "bias")
    net._buffers.update(running=fluxion.ones(1))
    assert list(net.state_dict()) == ["weight", "running"]
    with pytest.raises(KeyError):
        net._buffers["weight"]


def test_buffer_keeps_its_persistence():
    net = nn.Module()
    net.register_buffer("b", fluxion.ones(1), persistent=False)
    net.b = fluxion.zeros(1)
    assert not net.state_dict()
    assert net._non_persistent_buffers_set == {"b"}
    net.b = nn.Buffer(fluxion.ones(2))
    assert list(net.state_dict()) == ["b"]


def test_wrapper_with_its_own_getattr():
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def __getattr__(self, name):
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(self.module, name)

    assert Wrapper(nn.Linear(2, 3)).out_features == 3


def test_pickle_keeps_values_ties_and_modes():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)).eval()
    net[2].weight = net[0].weight
    twin = pickle.loads(pickle.dumps(net))
    assert repr(twin) == repr(net)
    assert twin[0].weight is twin[2].weight
    assert isinstance(twin[0].weight, nn.Parameter)
    assert twin[0].weight.requires_grad
    assert not twin.training
    x = fluxion.randn(3, 2)
    assert fluxion.equal(twin(x), net(x))


def test_deepcopy_of_frozen_parameters_and_hooks():
    net = nn.Linear(2, 2).requires_grad_(False)
    calls = []
    net.register_forward_hook(lambda *args: calls.append(1))
    twin = copy.deepcopy(net)
    assert not twin.weight.requires_grad
    twin(fluxion.ones(1, 2))
    assert calls == [1]


def test_parameter_shares_memory_and_is_a_leaf():
    data = fluxion.zeros(3)
    parameter = nn.Parameter(data)
    data[0] = 5
    assert parameter[0] == 5
    assert parameter.is_leaf
    assert type(parameter * 2) is fluxion.Tensor
    assert repr(parameter).startswith("Parameter containing:\n")
    assert nn.Parameter().numel() == 0


def test_hooks_cost_nothing_until_used():
    net = nn.Linear(1, 1)
    assert not net._hooked
    assert not any(name.endswith("hooks") for name in vars(net))
    handle = net.register_forward_hook(lambda *args: None)
    assert net._hooked
    handle.remove()
    handle.remove()
    assert not net._forward_hooks


def test_handle_keeps_no_module_alive():
    import gc
    import weakref

    net = nn.Linear(1, 1)
    handle = net.register_forward_hook(lambda *args: None)
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None
    handle.remove()


def test_modules_need_no_garbage_collector():
    import gc
    import weakref

    gc.collect()
    gc.disable()
    try:
        net = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
        gone = weakref.ref(net[0])
        del net
        assert gone() is None
    finally:
        gc.enable()


def test_modules_run_in_threads():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    x = fluxion.randn(2, 4)
    wanted, got = net(x), []
    threads = [threading.Thread(target=lambda: got.append(net(x))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(fluxion.equal(y, wanted) for y in got)


def test_dropout_scales_what_it_keeps():
    net = nn.Dropout(0.25)
    y = net(fluxion.ones(10_000))
    kept = y[y != 0]
    assert abs(len(kept) / 10_000 - 0.75) < 0.03
    assert fluxion.allclose(kept, fluxion.full_like(kept, 1 / 0.75))
    x = fluxion.ones(3)
    assert net.eval()(x) is x


def test_dropout2d_zeroes_whole_channels():
    y = nn.Dropout2d(0.5)(fluxion.ones(8, 16, 3, 3))
    sums = y.sum((2, 3))
    assert set(sums.flatten().tolist()) == {0.0, 18.0}


def test_inplace_activation_writes_its_input():
    x = fluxion.tensor([-1.0, 2.0])
    y = nn.ReLU(inplace=True)(x)
    assert y is x
    assert x.tolist() == [0, 2]
    assert nn.LeakyReLU(0.5, inplace=True)(fluxion.tensor([-2.0])).tolist() == [-1]


def test_gumbel_softmax():
    F = nn.functional
    logits = fluxion.zeros(50, 4, requires_grad=True)
    hard = F.gumbel_softmax(logits, hard=True)
    assert fluxion.equal(hard.sum(1).detach(), fluxion.ones(50))
    assert set(hard.detach().flatten().round().tolist()) == {0.0, 1.0}
    F.gumbel_softmax(logits, tau=0.5).sum().backward()
    assert logits.grad is not None


def test_embedding_padding_row_stays():
    net = nn.Embedding(4, 2, padding_idx=1)
    assert net.weight[1].tolist() == [0, 0]
    net(fluxion.tensor([0, 1, 1])).sum().backward()
    assert net.weight.grad[1].tolist() == [0, 0]
    assert net.weight.grad[0].tolist() == [1, 1]


def test_deepcopy_drops_gradients_and_keeps_shared_memory():
    flat = fluxion.zeros(4)
    net = nn.Module()
    net.a, net.b = nn.Parameter(flat[:2]), nn.Parameter(flat[2:])
    net.a.grad = fluxion.ones(2)
    net.flat = flat
    twin = copy.deepcopy(net)
    twin.flat.fill_(3)
    assert twin.a.grad is None
    assert twin.a.tolist() == twin.b.tolist() == [3, 3]
    assert net.a.tolist() == [0, 0]


def test_buffers_can_be_copied_and_pickled():
    net = nn.Module()
    net.table = nn.Buffer(fluxion.ones(2), persistent=False)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert isinstance(twin.table, nn.Buffer)
        assert not twin.table.persistent
        assert not twin.state_dict()


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
def test_losses_warn_when_they_compare_all_with_all(name):
    loss = getattr(nn.functional, name)
    with pytest.warns(UserWarning, match=rf"{name}: input of shape \(8, 1\) and target of shape"):
        loss(fluxion.ones(8, 1), target=fluxion.ones(8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(fluxion.ones(8), fluxion.ones(8))
