"""save and load: what comes back, who else can read it, and what a bad file says."""

import errno
import io
import json
import math
import os
import resource

import pytest

import fluxion
from fluxion import _C, nn, optim
from fluxion.serialization import load, save

DTYPES = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64".split()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.safetensors"


def roundtrip(value, path):
    save(value, path)
    return load(path)


# What comes back


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("mmap", [True, False])
def test_every_dtype(name, mmap, path):
    x = fluxion.arange(7).to(getattr(fluxion, name))
    save({"x": x}, path)
    y = load(path, mmap=mmap)["x"]
    assert y.dtype == x.dtype
    assert fluxion.equal(x, y)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3, 4)])
def test_every_shape(shape, path):
    y = roundtrip(fluxion.ones(shape), path)
    assert tuple(y.shape) == shape


VALUES = [
    None,
    True,
    3,
    2**80,
    -0.1,
    math.inf,
    -math.inf,
    "text \u00fc \U0001f600",
    "",
    b"\x00\xff",
    [],
    {},
    [1, [2.5, None]],
    (1, (2,), []),
    {"a": {"b": (1, 2)}, "": 3},
    {0: "a", 1.5: "b", (1, 2): "c", None: "d", True: "e"},
    {"$tensor": "not one", "$": 1},
    {1, 2},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_plain_values(value, path):
    got = roundtrip(value, path)
    assert got == value
    assert type(got) is type(value)


def test_nan_dtypes_and_devices(path):
    got = roundtrip([math.nan, fluxion.bfloat16, fluxion.device("cpu")], path)
    assert math.isnan(got[0])
    assert got[1:] == [fluxion.bfloat16, fluxion.device("cpu")]


def test_numpy_scalars(path):
    import numpy as np

    got = roundtrip({"a": np.float32(0.5), "b": np.int64(3), "c": np.arange(3)}, path)
    assert got["a"] == 0.5 and got["b"] == 3
    assert got["c"].tolist() == [0, 1, 2]


def test_a_training_checkpoint(path):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = optim.AdamW(net.parameters(), lr=0.1)
    net(fluxion.randn(5, 3)).square().sum().backward()
    optimizer.step()
    got = roundtrip(
        {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, path
    )
    twin = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    twin.load_state_dict(got["model"])
    assert all(fluxion.equal(a, b) for a, b in zip(net.parameters(), twin.parameters()))
    assert list(got["model"]) == list(net.state_dict())
    other = optim.AdamW(twin.parameters())
    other.load_state_dict(got["optimizer"])
    assert other.param_groups[0]["lr"] == 0.1
    assert other.param_groups[0]["betas"] == (0.9, 0.999)
    assert got["epoch"] == 3


def test_tied_tensors_stay_tied_and_are_there_under_each_name(path):
    x = fluxion.randn(4)
    got = roundtrip({"a": x, "b": x, "c": x[:2], "d": x.clone()}, path)
    assert got["a"] is got["b"]
    assert got["c"].tolist() == x[:2].tolist()
    assert got["d"] is not got["a"]
    assert len(_header(path)) == 5


def test_strided_tensors(path):
    x = fluxion.arange(12).view(3, 4)
    got = roundtrip([x.t(), x[:, ::2], fluxion.ones(1).expand(3)], path)
    assert [y.tolist() for y in got] == [x.t().tolist(), x[:, ::2].tolist(), [1, 1, 1]]


def test_names_that_collide(path):
    got = roundtrip(
        {"a.b": fluxion.ones(1), "a": {"b": fluxion.zeros(1)}, "__metadata__": fluxion.ones(2)},
        path,
    )
    assert got["a.b"].item() == 1
    assert got["a"]["b"].item() == 0
    assert got["__metadata__"].tolist() == [1, 1]


def test_requires_grad_is_not_saved(path):
    got = roundtrip(nn.Parameter(fluxion.ones(1)), path)
    assert type(got) is fluxion.Tensor
    assert not got.requires_grad


def test_loaded_tensors_can_be_written_and_the_file_stays(path):
    save({"x": fluxion.zeros(1000)}, path)
    x = load(path)["x"]
    x.fill_(5)
    assert x[999].item() == 5
    assert load(path)["x"].sum().item() == 0


def test_loaded_tensors_survive_a_new_save_and_the_end_of_the_file(path):
    save({"x": fluxion.zeros(1000)}, path)
    x = load(path)["x"]
    save({"x": fluxion.ones(1000)}, path)
    os.unlink(path)
    assert x.sum().item() == 0


def test_file_objects(path):
    buffer = io.BytesIO()
    save({"x": fluxion.ones(3)}, buffer)
    buffer.seek(0)
    assert load(buffer)["x"].tolist() == [1, 1, 1]
    with open(path, "wb") as file:
        save([1], file)
    with open(path, "rb") as file:
        assert load(file) == [1]


def test_map_location(path):
    save({"x": fluxion.ones(2)}, path)
    for place in ("cpu", fluxion.device("cpu"), {"cuda:0": "cpu"}, lambda tensor, device: tensor):
        assert load(path, map_location=place)["x"].tolist() == [1, 1]


def test_load_is_in_the_package_too(path):
    fluxion.save({"x": 1}, path)
    assert fluxion.load(path, weights_only=True) == {"x": 1}


# The file


def _header(path):
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def test_data_is_aligned(path):
    save({"a": fluxion.ones(3), "b": fluxion.ones(16), "c": fluxion.ones(5).double()}, path)
    header = _header(path)
    start = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    assert start % 64 == 0
    assert header["b"]["data_offsets"][0] % 64 == 0
    assert header["c"]["data_offsets"][0] % 8 == 0


def test_nothing_is_left_behind_and_the_old_file_stays_when_saving_fails(path):
    save({"x": 1}, path)
    with pytest.raises(TypeError):
        save({"x": object()}, path)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
    try:
        with pytest.raises(OSError, match="save: cannot write '.*': File too large") as info:
            save({"x": fluxion.ones(30_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert info.value.errno == errno.EFBIG
    assert load(path) == {"x": 1}
    assert os.listdir(path.parent) == [path.name]


def test_the_bytes_follow_from_what_is_saved(path):
    value = {"b": fluxion.ones(3), "a": fluxion.zeros(16, dtype=fluxion.float64), "n": 1}
    save(value, path)
    first = path.read_bytes()
    buffer = io.BytesIO()
    save(value, buffer)
    save(value, path)
    assert first == path.read_bytes() == buffer.getvalue()


def test_only_regular_files_are_replaced_and_read(tmp_path):
    with pytest.raises(OSError, match="not a regular file"):
        save({"x": 1}, "/dev/null")
    with pytest.raises(IsADirectoryError):
        save({"x": 1}, tmp_path)
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError):
        load(tmp_path / "pipe")


def test_a_write_to_one_loaded_tensor_copies_nothing_for_the_others(path):
    """Each tensor of a file is a storage of its own: a snapshot of one is not broken by writes to another."""
    save({"a": fluxion.ones(1000, requires_grad=True), "b": fluxion.ones(1000)}, path)
    got = load(path)
    a = got["a"].requires_grad_()
    y = (a * a).sum()
    before = _C._snapshot_bytes_copied()
    got["b"].add_(1)
    assert _C._snapshot_bytes_copied() == before
    y.backward()
    assert a.grad.tolist() == [2.0] * 1000


def test_saving_through_a_link_replaces_its_target(path):
    link = path.parent / "link"
    save(1, path)
    link.symlink_to(path)
    save(2, link)
    assert link.is_symlink()
    assert load(path) == 2


def test_the_safetensors_package_reads_ours_and_we_read_theirs(path):
    numpy_api = pytest.importorskip("safetensors.numpy")
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    save(net.state_dict(), path)
    theirs = numpy_api.load_file(path)
    assert theirs.keys() == net.state_dict().keys()
    assert theirs["0.weight"].tolist() == net[0].weight.tolist()
    assert theirs["1.num_batches_tracked"] == 0
    numpy_api.save_file({"b": theirs["0.weight"], "a": theirs["0.bias"][:3]}, path)
    ours = load(path)
    assert ours["b"].tolist() == net[0].weight.tolist()
    assert ours["a"].tolist() == net[0].bias[:3].tolist()


# What can't be saved


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (object(), "save: can't save an object of type object"),
        ({"a": [1, lambda: 0]}, "save: can't save 'a.1' of type function"),
        (nn.Linear(1, 1), "of type Linear; save its state_dict()"),
        ({fluxion.ones(1): 1}, "save: can't save an object: a dict has a Tensor as its key"),
    ],
)
def test_save_errors(value, text, path):
    with pytest.raises(TypeError) as info:
        save(value, path)
    assert text in str(info.value)
    assert not path.exists()


def test_closed_files():
    buffer = io.BytesIO()
    buffer.close()
    with pytest.raises(ValueError, match="save: the file object is closed"):
        save(1, buffer)
    with pytest.raises(ValueError, match="load: the file object is closed"):
        load(buffer)


def test_text_files_and_other_objects(path):
    with open(path, "w") as file, pytest.raises(TypeError, match="open it in binary mode, 'wb'"):
        save(1, file)
    with open(path) as file, pytest.raises(TypeError, match="open it in binary mode, 'rb'"):
        load(file)
    with pytest.raises(TypeError, match="save: f must be a path or a binary file, not int"):
        save(1, 3)
    with pytest.raises(TypeError, match="load: f must be a path or a binary file, not NoneType"):
        load(None)


def test_folders(tmp_path):
    with pytest.raises(IsADirectoryError, match=f"save: this is a folder, not a file: '{tmp_path}"):
        save(1, tmp_path)
    with pytest.raises(FileNotFoundError, match=f"save: there is no such folder: '{tmp_path}/a'"):
        save(1, tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        save(1, tmp_path / "none" / "file")


# Bad files


def build(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


TREE = {"__metadata__": {"fluxion": '{"version":1,"tree":{"$tensor":"none"}}'}}
BAD = {
    "too short for a safetensors file: 3 bytes": b"abc",
    "a PyTorch file (zip or pickle), which can hold code": b"PK\x03\x04" + bytes(20),
    "header length 1152921504606846976 is above 100000000": build(b"{}", length=2**60),
    "truncated: the header has 100 bytes, the file only 2": build(b"{}", length=100),
    "the header is not valid JSON": build(b"{x"),
    "the header is not valid JSON: parse error": build(b"{} {}"),
    "the key 'a' stands there twice": build(
        b'{"a":%s,"a":%s}' % ((json.dumps(entry(shape=[0], offsets=(0, 0))).encode(),) * 2)
    ),
    "the key 'k' of __metadata__ stands there twice": build(b'{"__metadata__":{"k":"","k":""}}'),
    "the header must be a JSON object, got an array": build(b"[]"),
    "__metadata__ must map strings to strings": build({"__metadata__": {"a": 1}}),
    "tensor 'a': needs exactly dtype, shape and data_offsets": build({"a": {"dtype": "F32"}}),
    "tensor 'a': dtype 'F8_E4M3' is not one of": build({"a": entry("F8_E4M3")}, bytes(4)),
    "tensor 'a': needs exactly dtype, shape": build({"a": 3}),
    "tensor 'b': needs exactly dtype, shape and data_offsets": build({"b": entry(more=1)}),
    "tensor 'a': more than 16 dims": build({"a": entry(shape=[1] * 17)}, bytes(4)),
    "tensor 'a': element 1 is 2, a BOOL is 0 or 1": build(
        {"a": entry("BOOL", [2], (0, 2))}, b"\x01\x02"
    ),
    "tensor 'a': shape must be a list of sizes, got -1": build({"a": entry(shape=[-1])}),
    "tensor 'a': shape must be a list of sizes, got 1.0": build({"a": entry(shape=[1.0])}),
    "tensor 'a': shape must be a list of sizes, got true": build(
        b'{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}'
    ),
    "data_offsets must be two sizes, got 1": build({"a": entry(offsets=[0])}),
    "F32 of shape [2] needs 8 bytes, offsets give 4": build({"a": entry(shape=[2])}, bytes(4)),
    "of shape [4294967296, 4294967296] needs more bytes than fit in 64 bits": build(
        {"a": entry(shape=[2**32, 2**32])}, bytes(4)
    ),
    "truncated: tensor 'a' ends at 4 of 2 bytes": build({"a": entry()}, bytes(2)),
    "tensor 'a' leaves a gap before it: begins at 4, expected 0": build(
        {"a": entry(offsets=(4, 8))}, bytes(8)
    ),
    "tensor 'b' overlaps the one before: begins at 2, expected 4": build(
        {"a": entry(), "b": entry(offsets=(2, 6))}, bytes(6)
    ),
    "3 bytes after the last tensor": build({"a": entry()}, bytes(7)),
    "bad structure: 'none'": build(TREE),
    "bad structure: unknown tag '$call'": build(
        {"__metadata__": {"fluxion": '{"version":1,"tree":{"$call":[]}}'}}
    ),
    "written by a newer version (format 99, known is 1)": build(
        {"__metadata__": {"fluxion": '{"version":99}'}}
    ),
}


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize("mmap", [True, False])
def test_bad_files(text, mmap, path):
    path.write_bytes(BAD[text])
    with pytest.raises(RuntimeError) as info:
        load(path, mmap=mmap)
    assert str(info.value).startswith(f"load: {path}: ")
    assert text in str(info.value)


def test_deep_nesting_is_an_error(path):
    path.write_bytes(build(b'{"a":' * 5000 + b"1" + b"}" * 5000))
    with pytest.raises(RuntimeError, match="needs exactly dtype, shape and data_offsets"):
        load(path)
    path.write_bytes(build(b"[" * 100_000))
    with pytest.raises(RuntimeError, match="must be a JSON object"):
        load(path)


def test_any_damage_is_an_error_or_harmless(path):
    """Every prefix and many damaged bytes of a real file: an error of ours, never a crash."""
    save({"model": {"w": fluxion.ones(2, 3), "b": fluxion.ones(3).half()}, "n": (1, 2.5)}, path)
    whole = path.read_bytes()
    for cut in range(len(whole)):
        with pytest.raises(RuntimeError):
            load(io.BytesIO(whole[:cut]))
    end = 8 + int.from_bytes(whole[:8], "little")
    for place in range(end):
        damaged = bytearray(whole)
        damaged[place] = (damaged[place] + 1 + place % 200) % 256
        try:
            load(io.BytesIO(bytes(damaged)))
        except RuntimeError:
            pass
