"""`save` and `load`: nested containers of tensors and plain values as one safetensors file.

A file is an 8-byte little-endian header length, a JSON header and the tensors' bytes. Tensors have dotted names;
everything else - the nesting, numbers, strings - is JSON in the header's `__metadata__`. Nothing in a file is ever
executed. Data starts at a multiple of 64 bytes, and every tensor whose size is a multiple of 64 is aligned to 64
too: the format allows no gaps, so these come first.
"""

from __future__ import annotations

import json
import math
import os
from collections import namedtuple

from fluxion import _C, Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any

    Path = str | os.PathLike[str]

__all__ = ["load", "save"]

_ALIGN = 64
_MAX_HEADER = 100_000_000  # as in the reference implementation
_TREE = "fluxion"  # our key in __metadata__
_FORMAT = 1

_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}


class FormatError(RuntimeError):
    """A file that is not what it should be."""


# Writing


def save(obj: Any, f: Path | IO[bytes]) -> None:
    """Writes `obj` to a path or a binary file object.

    `obj` is a tensor or any nesting of dicts, lists and tuples of tensors, numbers, strings, bytes, None, sizes,
    dtypes and devices: for example `{"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}`.
    A file at a path is replaced at once when it is complete. Tensors that are the same memory with the same shape
    are the same tensor again after `load`. Raises TypeError for any other object, with its place in the nesting.
    """
    packer = _Packer()
    tree = packer.pack(obj, ())
    header, tensors = _layout(packer.tensors, {"format": "fluxion", _TREE: _tree_text(tree)})
    if hasattr(f, "write"):
        if getattr(f, "closed", False):
            raise ValueError("save: the file object is closed")
        _write(f, header, tensors)
    else:
        _write_atomically(os.fspath(f), header, tensors)


def _tree_text(tree: Any) -> str:
    return json.dumps({"version": _FORMAT, "tree": tree}, separators=(",", ":"), allow_nan=False)


class _Packer:
    """Turns an object into JSON values; tensors are put aside under their names."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[tuple, str] = {}

    def pack(self, value: Any, path: tuple[str, ...]) -> Any:
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, Tensor):
            return {"$tensor": self._add(value.detach(), path)}
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
        if isinstance(value, dict):
            return self._pack_dict(value, path)
        if isinstance(value, (tuple, list, set, frozenset)):
            items = [self.pack(item, (*path, str(i))) for i, item in enumerate(value)]
            if isinstance(value, list):
                return items
            return {"$set" if isinstance(value, (set, frozenset)) else "$tuple": items}
        return self._pack_other(value, path)

    def _pack_dict(self, value: dict, path: tuple[str, ...]) -> Any:
        plain = all(isinstance(key, str) and not key.startswith("$") for key in value)
        if plain:
            return {key: self.pack(item, (*path, key)) for key, item in value.items()}
        pairs = []
        for key, item in value.items():
            if isinstance(key, Tensor):
                raise TypeError(f"save: can't save {_place(path)}: a dict has a Tensor as its key")
            pairs.append([self.pack(key, path), self.pack(item, (*path, str(key)))])
        return {"$dict": pairs}

    def _pack_other(self, value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, _C.dtype):
            return {"$dtype": str(value).rpartition(".")[2]}
        if isinstance(value, _C.device):
            return {"$device": str(value)}
        if isinstance(value, (bytes, bytearray)):
            import base64

            return {"$bytes": base64.b64encode(value).decode()}
        if type(value).__module__ == "numpy":
            if not getattr(value, "shape", None) and hasattr(value, "item"):
                return self.pack(value.item(), path)
            return self.pack(_C.as_tensor(value), path)
        hint = "; save its state_dict()" if hasattr(value, "state_dict") else ""
        raise TypeError(f"save: can't save {_place(path)} of type {type(value).__name__}{hint}")

    def _add(self, tensor: Tensor, path: tuple[str, ...]) -> str:
        """The name of a tensor in the file. One that is exactly the same memory as another is noted as it."""
        name = base = ".".join(path) or "tensor"
        count = 1
        while name in self.tensors or name == "__metadata__":
            name, count = f"{base}#{count}", count + 1
        self.tensors[name] = tensor
        if tensor.numel() == 0:
            return name
        identity = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        return self._names.setdefault(identity, name)


def _place(path: tuple[str, ...]) -> str:
    return f"'{'.'.join(path)}'" if path else "an object"


def _layout(tensors: dict[str, Tensor], metadata: dict[str, str]) -> tuple[bytes, list[Tensor]]:
    """The header with its length, and the tensors in the order of their bytes."""
    names = {getattr(_C, name): code for code, name in _DTYPES.items()}
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}
    order = sorted(tensors, key=lambda n: (sizes[n] % _ALIGN != 0, -tensors[n].element_size()))
    offset, begin = 0, {}
    for name in order:
        begin[name] = offset
        offset += sizes[name]
    header: dict[str, Any] = {"__metadata__": metadata}
    for name, tensor in tensors.items():
        if tensor.dtype not in names:
            raise TypeError(
                f"save: '{name}' has dtype {tensor.dtype}, which safetensors has no name for"
            )
        header[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin[name], begin[name] + sizes[name]],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGN)
    if len(text) > _MAX_HEADER:
        raise ValueError(f"save: the header has {len(text)} bytes, more than {_MAX_HEADER}")
    return len(text).to_bytes(8, "little") + text, [tensors[name] for name in order]


def _write(file: IO[bytes], header: bytes, tensors: list[Tensor]) -> None:
    file.write(header)
    for tensor in tensors:
        if tensor.numel():
            tensor = tensor.cpu().contiguous()
            file.write(_bytes_of(tensor))


def _bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    import ctypes

    size = tensor.numel() * tensor.element_size()
    return memoryview((ctypes.c_char * size).from_address(tensor.data_ptr())).cast("B")


def _write_atomically(path: str, header: bytes, tensors: list[Tensor]) -> None:
    """Writes a temporary file beside `path`, makes it durable, and renames it."""
    path = os.path.realpath(path)
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.{id(tensors):x}.tmp")
    try:
        with open(temporary, "xb") as file:
            _write(file, header, tensors)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Reading


def load(
    f: Path | IO[bytes],
    map_location: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
) -> Any:
    """What `save` wrote, or a dict of tensors from any other safetensors file.

    A path is memory-mapped unless `mmap=False`: pages are read when they are touched, and writing to a tensor
    changes a private copy, never the file. `map_location` is a device (only the CPU so far), a dict of devices or a
    function `(tensor, device) -> tensor`. `weights_only` has no effect, since no code is ever loaded. Raises
    RuntimeError that says what is wrong with the file.
    """
    is_file = hasattr(f, "read")
    if is_file:
        if getattr(f, "closed", False):
            raise ValueError("load: the file object is closed")
        name, data = getattr(f, "name", "file object"), bytearray(f.read())  # type: ignore[union-attr]
    else:
        name = os.fspath(f)  # type: ignore[arg-type]
        data = _read(name, mmap is not False)
    entries, metadata, start = _parse(str(name), data)
    place = _placer(map_location)
    tensors = {key: place(_tensor(data, start, entry)) for key, entry in entries.items()}
    if _TREE not in metadata:
        return tensors
    try:
        content = json.loads(metadata[_TREE])
        version = content["version"]
        if version != _FORMAT:
            raise FormatError(f"written by a newer version (format {version}, known is {_FORMAT})")
        return _unpack(content["tree"], tensors)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise FormatError(f"load: {name}: bad structure: {error}") from None


def _read(path: str, use_mmap: bool) -> Any:
    """The bytes of a file, as writable private memory."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not use_mmap or size == 0:
            return bytearray(file.read())
        import mmap

        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


_Entry = namedtuple("_Entry", ["dtype", "shape", "begin", "end"])


def _parse(name: str, data: Any) -> tuple[dict[str, _Entry], dict[str, str], int]:
    """Checks the whole header: entries by name, metadata, and where the data starts."""

    def fail(problem: str) -> FormatError:
        return FormatError(f"load: {name}: {problem}")

    size = len(data)
    if size < 8:
        raise fail(f"too short for a safetensors file: {size} bytes, the header length alone has 8")
    if bytes(data[:2]) == b"PK" or bytes(data[:1]) == b"\x80":
        raise fail("a PyTorch file (zip or pickle), which can hold code; convert it to safetensors")
    length = int.from_bytes(data[:8], "little")
    if length > _MAX_HEADER:
        raise fail(f"header length {length} is above {_MAX_HEADER}; not a safetensors file?")
    if 8 + length > size:
        raise fail(
            f"truncated: the header has {length} bytes, the file only {size - 8} after its length"
        )
    try:
        header = json.loads(bytes(data[8 : 8 + length]), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise fail(f"the header is not valid JSON: {error}") from None
    if not isinstance(header, dict):
        raise fail(f"the header must be a JSON object, got {type(header).__name__}")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise fail("__metadata__ must map strings to strings")
    entries = {}
    for key, info in header.items():
        try:
            entries[key] = _entry(info)
        except FormatError as error:
            raise fail(f"tensor '{key}': {error}") from None
    _check_coverage(entries, size - 8 - length, fail)
    return entries, metadata, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands there twice")
    return result


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _entry(info: Any) -> _Entry:
    if not isinstance(info, dict) or set(info) != {"dtype", "shape", "data_offsets"}:
        raise FormatError("needs exactly dtype, shape and data_offsets")
    dtype, shape, offsets = info["dtype"], info["shape"], info["data_offsets"]
    if dtype not in _DTYPES:
        raise FormatError(f"dtype {dtype!r} is not one of {', '.join(_DTYPES)}")
    if not isinstance(shape, list) or not all(map(_is_size, shape)):
        raise FormatError(f"shape must be a list of sizes, got {shape!r}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise FormatError(f"data_offsets must be two sizes, got {offsets!r}")
    begin, end = offsets
    wanted = math.prod(shape) * getattr(_C, _DTYPES[dtype]).itemsize
    if end - begin != wanted:
        raise FormatError(
            f"{dtype} of shape {shape} needs {wanted} bytes, offsets give {end - begin}"
        )
    return _Entry(dtype, shape, begin, end)


def _check_coverage(
    entries: dict[str, _Entry], size: int, fail: Callable[[str], FormatError]
) -> None:
    """The tensors' ranges must follow each other and fill the data exactly."""
    position = 0
    for key, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            problem = (
                "overlaps the one before" if entry.begin < position else "leaves a gap before it"
            )
            raise fail(f"tensor '{key}' {problem}: begins at {entry.begin}, expected {position}")
        if entry.end > size:
            raise fail(f"truncated: tensor '{key}' ends at {entry.end} of {size} bytes of data")
        position = entry.end
    if position != size:
        raise fail(f"{size - position} bytes after the last tensor")


def _tensor(data: Any, start: int, entry: _Entry) -> Tensor:
    dtype = getattr(_C, _DTYPES[entry.dtype])
    if entry.begin == entry.end:
        return _C.empty(entry.shape, dtype=dtype)
    begin = start + entry.begin
    if begin % dtype.itemsize:  # other writers need not align; kernels need aligned elements
        data, begin = bytearray(data[begin : start + entry.end]), 0
    count = (entry.end - entry.begin) // dtype.itemsize
    return _C.frombuffer(data, dtype=dtype, count=count, offset=begin).view(entry.shape)


def _placer(map_location: Any) -> Callable[[Tensor], Tensor]:
    if callable(map_location):
        return lambda tensor: map_location(tensor, "cpu")
    if isinstance(map_location, dict):
        map_location = map_location.get("cpu", "cpu")
    if map_location is None or str(map_location) == "cpu":
        return lambda tensor: tensor
    return lambda tensor: tensor.to(map_location)


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "")
    if not tag.startswith("$"):
        return {key: _unpack(item, tensors) for key, item in value.items()}
    content = value[tag]
    if tag == "$tensor":
        return tensors[content]
    if tag == "$dict":
        return {_unpack(key, tensors): _unpack(item, tensors) for key, item in content}
    if tag in ("$tuple", "$set"):
        return (tuple if tag == "$tuple" else set)(_unpack(item, tensors) for item in content)
    if tag == "$float":
        return float(content)
    if tag == "$dtype":
        if content not in _DTYPES.values():
            raise FormatError(f"unknown dtype {content!r}")
        return getattr(_C, content)
    if tag == "$device":
        return _C.device(content)
    if tag == "$bytes":
        import base64

        return base64.b64decode(content)
    raise FormatError(f"unknown tag {tag!r}")
