"""`save` and `load`: nested containers of tensors and plain values as one safetensors file.

Tensors have dotted names; everything else - the nesting, numbers, strings - is JSON in the header's `__metadata__`.
Nothing in a file is ever executed. The format itself is read and written by `io/safetensors.h`.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os

from fluxion import _C, Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import IO, Any

    Path = str | os.PathLike[str]

__all__ = ["async_save", "load", "save"]

_TREE = "fluxion"  # our key in __metadata__
_FORMAT = 1

_DTYPES = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64".split()


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
    image = _image(obj)
    if hasattr(f, "write"):
        _check_file("save", f)
        for part in _C._image_parts(image):
            f.write(part)
    else:
        _C._write_image(image, _check_folder(_path("save", f)))


def _image(obj: Any) -> Any:
    """The file as of now: its tensors are snapshots, copied only where they are written before they are saved."""
    packer = _Packer()
    tree = packer.pack(obj, ())
    return _C._file_image(packer.tensors, {"format": "fluxion", _TREE: _tree_text(tree)})


_writers: dict[
    int, Any
] = {}  # one thread for each process, since a forked child has none of its parent's


def async_save(obj: Any, f: Path) -> Future[None]:
    """`save` in the background: the file gets the tensors as of the call, whatever is written to them afterwards.

    Nothing is copied but what is written before it is on the disk. Files are written one after another in the order
    of the calls, and the end of the program waits for them. Writes that NumPy makes to shared memory are not seen.
    The Future's `result()` waits, and raises what `save` would raise; a failure is a warning as well. Raises
    TypeError at once for what can't be saved.
    """
    from concurrent.futures import ThreadPoolExecutor

    path = _check_folder(_path("async_save", f))
    writer = _writers.get(os.getpid())
    if writer is None:
        _writers.clear()
        writer = _writers[os.getpid()] = ThreadPoolExecutor(1, thread_name_prefix="fluxion-save")
    return writer.submit(_write_in_background, _image(obj), path)


def _write_in_background(image: Any, path: str) -> None:
    try:
        _C._write_image(image, path)
    except Exception as error:
        import warnings

        warnings.warn(f"async_save: '{path}' was not saved: {error}", stacklevel=1)
        raise


def _path(function: str, f: Any) -> str:
    try:
        return os.fsdecode(f)
    except TypeError:
        raise TypeError(
            f"{function}: f must be a path or a binary file, not {type(f).__name__}"
        ) from None


def _check_folder(path: str) -> str:
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, "save: this is a folder, not a file", path)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "save: there is no such folder", folder)
    return path


def _check_file(function: str, file: Any) -> None:
    if getattr(file, "closed", False):
        raise ValueError(f"{function}: the file object is closed")
    if isinstance(file, io.TextIOBase):
        mode = "wb" if function == "save" else "rb"
        raise TypeError(f"{function}: f is a text file; open it in binary mode, '{mode}'")


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
    if hasattr(f, "read"):
        _check_file("load", f)
        name = str(getattr(f, "name", "file object"))
        data = bytearray(f.read())
        data = _C.frombuffer(data, dtype=_C.uint8) if data else _C.empty(0, dtype=_C.uint8)
        tensors, metadata = _C._parse_safetensors(data, name)
    else:
        name = _path("load", f)
        tensors, metadata = _C._read_safetensors(name, mmap is not False)
    place = _placer(map_location)
    tensors = {key: place(tensor) for key, tensor in tensors.items()}
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
        if content not in _DTYPES:
            raise FormatError(f"unknown dtype {content!r}")
        return getattr(_C, content)
    if tag == "$device":
        return _C.device(content)
    if tag == "$bytes":
        import base64

        return base64.b64decode(content)
    raise FormatError(f"unknown tag {tag!r}")
