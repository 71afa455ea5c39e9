"""Modules: text, state names, forward values, gradients and buffers."""

from __future__ import annotations

from .values import integers, plain, wave

# name: (how to make it, input shapes)
X23, IMAGE, SEQUENCE = (2, 3), (2, 4, 4, 3), (2, 4, 7)
CASES = {
    "Linear": (lambda nn: nn.Linear(3, 4), [X23]),
    "Linear no bias": (lambda nn: nn.Linear(3, 2, bias=False), [(2, 5, 3)]),
    "Bilinear": (lambda nn: nn.Bilinear(3, 2, 4), [X23, (2, 2)]),
    "Identity": (lambda nn: nn.Identity(3, a=1), [X23]),
    "Flatten": (lambda nn: nn.Flatten(1, 2), [IMAGE]),
    "Unflatten": (lambda nn: nn.Unflatten(1, (2, -1)), [IMAGE]),
    "Sequential": (lambda nn: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), [X23]),
    "Conv1d": (lambda nn: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), [SEQUENCE]),
    "Conv1d same": (lambda nn: nn.Conv1d(4, 3, 4, padding="same", dilation=2), [SEQUENCE]),
    "Conv2d": (lambda nn: nn.Conv2d(4, 3, (3, 2), stride=(2, 1), padding=(1, 0)), [IMAGE]),
    "Conv2d depthwise": (lambda nn: nn.Conv2d(4, 8, 3, groups=4, bias=False), [IMAGE]),
    "Conv2d same": (lambda nn: nn.Conv2d(4, 2, (3, 2), padding="same"), [IMAGE]),
    "Conv2d valid": (lambda nn: nn.Conv2d(4, 2, 2, padding="valid", dilation=2), [IMAGE]),
    "Conv2d reflect": (
        lambda nn: nn.Conv2d(4, 2, 3, padding=(2, 1), padding_mode="reflect"),
        [IMAGE],
    ),
    "Conv2d circular": (lambda nn: nn.Conv2d(4, 2, 3, padding=1, padding_mode="circular"), [IMAGE]),
    "Conv2d unbatched": (lambda nn: nn.Conv2d(4, 2, 3), [IMAGE[1:]]),
    "BatchNorm1d": (lambda nn: nn.BatchNorm1d(3), [(5, 3)]),
    "BatchNorm1d 3d": (lambda nn: nn.BatchNorm1d(4, momentum=None), [SEQUENCE]),
    "BatchNorm1d eval": (lambda nn: nn.BatchNorm1d(3).eval(), [(5, 3)]),
    "BatchNorm2d": (lambda nn: nn.BatchNorm2d(4, eps=1e-3, momentum=0.3), [IMAGE]),
    "BatchNorm2d plain": (
        lambda nn: nn.BatchNorm2d(4, affine=False, track_running_stats=False).eval(),
        [IMAGE],
    ),
    "LayerNorm": (lambda nn: nn.LayerNorm(3), [IMAGE]),
    "LayerNorm 2d": (lambda nn: nn.LayerNorm((4, 3), bias=False, eps=1e-3), [IMAGE]),
    "LayerNorm plain": (lambda nn: nn.LayerNorm([3], elementwise_affine=False), [IMAGE]),
    "RMSNorm": (lambda nn: nn.RMSNorm(3), [IMAGE]),
    "RMSNorm plain": (lambda nn: nn.RMSNorm([4, 3], 1e-3, False), [IMAGE]),
    "GroupNorm": (lambda nn: nn.GroupNorm(2, 4), [IMAGE]),
    "GroupNorm plain": (lambda nn: nn.GroupNorm(4, 4, affine=False), [SEQUENCE]),
    "InstanceNorm1d": (lambda nn: nn.InstanceNorm1d(4, affine=True), [SEQUENCE]),
    "InstanceNorm2d": (lambda nn: nn.InstanceNorm2d(4, track_running_stats=True), [IMAGE]),
    "LocalResponseNorm": (lambda nn: nn.LocalResponseNorm(3), [IMAGE]),
    "Dropout eval": (lambda nn: nn.Dropout(0.3).eval(), [X23]),
    "Dropout 1": (lambda nn: nn.Dropout(1.0), [X23]),
    "Dropout2d eval": (lambda nn: nn.Dropout2d(0.3, inplace=True).eval(), [IMAGE]),
    "MaxPool1d": (lambda nn: nn.MaxPool1d(3, stride=2, padding=1), [SEQUENCE]),
    "MaxPool2d": (lambda nn: nn.MaxPool2d(2), [IMAGE]),
    "MaxPool2d all": (lambda nn: nn.MaxPool2d((3, 2), 1, (1, 0), 2, ceil_mode=True), [IMAGE]),
    "MaxPool2d indices": (lambda nn: nn.MaxPool2d(2, return_indices=True), [IMAGE]),
    "AvgPool1d": (lambda nn: nn.AvgPool1d(3, 2, 1, count_include_pad=False), [SEQUENCE]),
    "AvgPool2d": (lambda nn: nn.AvgPool2d((3, 2), padding=1), [IMAGE]),
    "AvgPool2d all": (lambda nn: nn.AvgPool2d(2, 3, 1, True, False, divisor_override=3), [IMAGE]),
    "AdaptiveAvgPool1d": (lambda nn: nn.AdaptiveAvgPool1d(3), [SEQUENCE]),
    "AdaptiveAvgPool2d": (lambda nn: nn.AdaptiveAvgPool2d((2, None)), [IMAGE]),
    "AdaptiveAvgPool2d 1": (lambda nn: nn.AdaptiveAvgPool2d(1), [IMAGE]),
    "AdaptiveAvgPool2d odd": (lambda nn: nn.AdaptiveAvgPool2d((3, 4)), [IMAGE]),
    "PReLU": (lambda nn: nn.PReLU(4), [IMAGE]),
    "GELU tanh": (lambda nn: nn.GELU("tanh"), [X23]),
    "LeakyReLU": (lambda nn: nn.LeakyReLU(0.2, inplace=False), [X23]),
    "ELU": (lambda nn: nn.ELU(0.5), [X23]),
    "CELU": (lambda nn: nn.CELU(0.5), [X23]),
    "Hardtanh": (lambda nn: nn.Hardtanh(-0.5, 0.7), [X23]),
    "Softplus": (lambda nn: nn.Softplus(2.0, 1.0), [X23]),
    "Softshrink": (lambda nn: nn.Softshrink(0.4), [X23]),
    "Hardshrink": (lambda nn: nn.Hardshrink(0.4), [X23]),
    "Threshold": (lambda nn: nn.Threshold(0.1, 20.0), [X23]),
    "GLU": (lambda nn: nn.GLU(1), [IMAGE]),
    "Softmax": (lambda nn: nn.Softmax(dim=1), [IMAGE]),
    "LogSoftmax": (lambda nn: nn.LogSoftmax(dim=-1), [X23]),
    "Softmin": (lambda nn: nn.Softmin(dim=-1), [X23]),
    "Softmax2d": (lambda nn: nn.Softmax2d(), [IMAGE]),
    "Upsample": (lambda nn: nn.Upsample(scale_factor=2), [IMAGE]),
    "Upsample bilinear": (lambda nn: nn.Upsample(size=(3, 5), mode="bilinear"), [IMAGE]),
    "Upsample corners": (
        lambda nn: nn.Upsample(scale_factor=1.5, mode="bilinear", align_corners=True),
        [IMAGE],
    ),
    "PixelShuffle": (lambda nn: nn.PixelShuffle(2), [IMAGE]),
    "PixelUnshuffle": (lambda nn: nn.PixelUnshuffle(2), [(2, 1, 4, 6)]),
    "ZeroPad2d": (lambda nn: nn.ZeroPad2d((1, 2, 0, -1)), [IMAGE]),
    "ConstantPad2d": (lambda nn: nn.ConstantPad2d(1, 3.5), [IMAGE]),
    "ReflectionPad2d": (lambda nn: nn.ReflectionPad2d((2, 1, 3, 0)), [IMAGE]),
    "ReplicationPad2d": (lambda nn: nn.ReplicationPad2d((2, 1, 3, 0)), [IMAGE]),
    "CosineSimilarity": (lambda nn: nn.CosineSimilarity(), [X23, X23]),
    "PairwiseDistance": (lambda nn: nn.PairwiseDistance(keepdim=True), [X23, X23]),
}
for _name in (
    "ReLU ReLU6 SiLU Mish SELU Hardswish Hardsigmoid Sigmoid Tanh LogSigmoid Softsign Tanhshrink GELU"
).split():
    CASES[_name] = (lambda nn, name=_name: getattr(nn, name)(), [X23])

LOSSES = {
    "L1Loss": (lambda nn: nn.L1Loss(), "float"),
    "MSELoss": (lambda nn: nn.MSELoss(reduction="sum"), "float"),
    "SmoothL1Loss": (lambda nn: nn.SmoothL1Loss(beta=0.7), "float"),
    "HuberLoss": (lambda nn: nn.HuberLoss(delta=0.6), "float"),
    "CrossEntropyLoss": (lambda nn: nn.CrossEntropyLoss(), "class"),
    "CrossEntropyLoss all": (
        lambda nn: nn.CrossEntropyLoss(ignore_index=2, label_smoothing=0.2, reduction="none"),
        "class",
    ),
    "CrossEntropyLoss soft": (lambda nn: nn.CrossEntropyLoss(label_smoothing=0.1), "probability"),
    "NLLLoss": (lambda nn: nn.NLLLoss(ignore_index=1), "class"),
    "NLLLoss legacy": (lambda nn: nn.NLLLoss(size_average=False), "class"),
    "BCELoss": (lambda nn: nn.BCELoss(), "unit"),
    "BCEWithLogitsLoss": (lambda nn: nn.BCEWithLogitsLoss(), "probability"),
    "KLDivLoss": (lambda nn: nn.KLDivLoss(reduction="batchmean"), "probability"),
    "KLDivLoss log": (lambda nn: nn.KLDivLoss(log_target=True), "float"),
    "PoissonNLLLoss": (lambda nn: nn.PoissonNLLLoss(full=True), "probability"),
    "SoftMarginLoss": (lambda nn: nn.SoftMarginLoss(), "float"),
    "HingeEmbeddingLoss": (lambda nn: nn.HingeEmbeddingLoss(), "sign"),
}


def _set_parameters(T, module):
    module.double()
    with T.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.copy_(wave(T, *parameter.shape, seed=i, low=-0.9, high=1.1))


def _run(T, module, inputs):
    """Everything that can be seen of one forward and backward."""
    _set_parameters(T, module)
    leaves = [x for x in inputs if x.requires_grad]
    result = {"repr": repr(module), "training": module.training}
    output = module(*inputs)
    first = output[0] if isinstance(output, tuple) else output
    result["output"] = plain(output)
    result["shape"] = list(first.shape)
    (first * wave(T, *first.shape, seed=5)).sum().backward()
    result["input gradients"] = [plain(x.grad) for x in leaves]
    result["gradients"] = {n: plain(p.grad) for n, p in module.named_parameters()}
    result["state"] = plain({k: v for k, v in module.state_dict().items()})
    return result


def run_module(T, name):
    make, shapes = CASES[name]
    inputs = [wave(T, *shape, seed=i, grad=True) for i, shape in enumerate(shapes)]
    return _run(T, make(T.nn), inputs)


def run_loss(T, name):
    make, kind = LOSSES[name]
    low, high = (0.05, 0.95) if kind == "unit" else (-2.0, 2.0)
    input = wave(T, 4, 5, low=low, high=high, grad=True)
    targets = {
        "float": lambda: wave(T, 4, 5, seed=3),
        "class": lambda: integers(T, 4, below=5),
        "probability": lambda: T.softmax(wave(T, 4, 5, seed=3), 1),
        "unit": lambda: wave(T, 4, 5, seed=3, low=0.0, high=1.0),
        "sign": lambda: (wave(T, 4, 5, seed=3) > 0).to(T.float64) * 2 - 1,
    }
    return _run(T, make(T.nn), [input, targets[kind]()])
