"""Saving and restoring what a module owns as a flat dictionary."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Mapping

from fluxion import Tensor, no_grad
from fluxion.utils.hooks import RemovableHandle, add_hook

from ..parameter import Parameter
from ._hooks import HookTable
from ._members import BUFFER, MODULE, PARAMETER, members

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_EXTRA_STATE = "_extra_state"


class _IncompatibleKeys(namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])):
    """What `load_state_dict` found: names that it missed and names that it did not know."""

    __slots__ = ()

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return super().__repr__()

    __str__ = __repr__


class StateDicts:
    """The part of `Module` that speaks `state_dict`."""

    _state_dict_hooks = HookTable(on_call=False)
    _state_dict_pre_hooks = HookTable(on_call=False)
    _load_state_dict_pre_hooks = HookTable(on_call=False)
    _load_state_dict_post_hooks = HookTable(on_call=False)

    def state_dict(
        self,
        *args: Any,
        destination: Any = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> dict[str, Any]:
        """Parameters and persistent buffers by dotted name. The tensors share memory with the module's.

        `keep_vars` gives the parameters themselves instead of detached tensors.
        """
        if args:  # the old positional form: destination, prefix, keep_vars
            given = (*args, *(destination, prefix, keep_vars)[len(args) :])
            destination, prefix, keep_vars = given
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        local_metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = local_metadata
        for hook in self._hooks_of("_state_dict_pre_hooks"):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, child in members(self, (MODULE,)):
            if child is not None:
                child.state_dict(
                    destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars
                )
        for hook in self._hooks_of("_state_dict_hooks"):
            replaced = hook(self, destination, prefix, local_metadata)
            if replaced is not None:
                destination = replaced
        return destination

    def _hooks_of(self, table: str) -> list[Callable]:
        """The hooks of a table, without making the table."""
        hooks = self.__dict__.get(table)
        return list(hooks.values()) if hooks else []

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Writes this module's own parameters and buffers (not its children's) into `destination`."""
        for name, value in self._own_state():
            if value is not None:
                destination[prefix + name] = value if keep_vars else value.detach()
        if type(self).get_extra_state is not StateDicts.get_extra_state:
            destination[prefix + _EXTRA_STATE] = self.get_extra_state()

    def _own_state(self) -> list[tuple[str, Tensor | None]]:
        return members(self, (PARAMETER,)) + members(self, (BUFFER,))

    def get_extra_state(self) -> Any:
        """Further state for the `state_dict`; a subclass that defines it defines `set_extra_state` too."""
        raise RuntimeError(f"{type(self).__name__} has extra state but no get_extra_state()")

    def set_extra_state(self, state: Any) -> None:
        """Restores what `get_extra_state` gave."""
        raise RuntimeError(f"{type(self).__name__} found extra state but has no set_extra_state()")

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _IncompatibleKeys:
        """Copies values from `state_dict` into parameters and buffers, in place.

        `strict` requires exactly the same names; `assign` takes the given tensors over instead of copying.
        Raises RuntimeError that lists every missing or unexpected name and every wrong shape.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"load_state_dict: expected a mapping of names to tensors, got {type(state_dict).__name__}"
            )
        metadata = getattr(state_dict, "_metadata", None)
        missing: list[str] = []
        unexpected: list[str] = []
        errors: list[str] = []

        def load(module: Any, local: dict[str, Any], prefix: str) -> None:
            local_metadata = dict((metadata or {}).get(prefix[:-1], ()))
            if assign:
                local_metadata["assign_to_params_buffers"] = True
            module._load_from_state_dict(
                local, prefix, local_metadata, True, missing, unexpected, errors
            )
            for name, child in members(module, (MODULE,)):
                if child is not None:
                    path = f"{prefix}{name}."
                    load(child, {k: v for k, v in local.items() if k.startswith(path)}, path)
            found = _IncompatibleKeys(missing, unexpected)
            for hook in module._hooks_of("_load_state_dict_post_hooks"):
                if hook(module, found) is not None:
                    raise RuntimeError(
                        "a load_state_dict post hook must change missing_keys and unexpected_keys "
                        "in place and return None"
                    )

        copy = OrderedDict(state_dict)
        if metadata is not None:
            copy._metadata = metadata  # type: ignore[attr-defined]
        load(self, copy, "")
        if strict:
            if unexpected:
                errors.insert(0, f"Unexpected key(s) in state_dict: {_named(unexpected, missing)}")
            if missing:
                errors.insert(0, f"Missing key(s) in state_dict: {_named(missing, [])}")
        if errors:
            raise RuntimeError(
                f"Error(s) in loading state_dict for {type(self).__name__}:\n\t"
                + "\n\t".join(errors)
            )
        return _IncompatibleKeys(missing, unexpected)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Loads this module's own parameters and buffers; subclasses override it to accept older formats."""
        for hook in self._hooks_of("_load_state_dict_pre_hooks"):
            hook(
                state_dict,
                prefix,
                local_metadata,
                strict,
                missing_keys,
                unexpected_keys,
                error_msgs,
            )
        assign = local_metadata.get("assign_to_params_buffers", False)
        own = {name: value for name, value in self._own_state() if value is not None}
        for name, value in own.items():
            key = prefix + name
            if key in state_dict:
                problem = self._load_one(name, value, state_dict[key], key, assign)
                if problem:
                    error_msgs.append(problem)
            elif strict:
                missing_keys.append(key)
        self._load_extra_state(state_dict, prefix, strict, missing_keys, unexpected_keys)
        if strict:
            known = own.keys() | {_EXTRA_STATE}
            for key in state_dict:
                if key.startswith(prefix):
                    name, _, rest = key[len(prefix) :].partition(".")
                    is_child = rest and self._members.get(name) == MODULE
                    if not is_child and (rest or name not in known):
                        unexpected_keys.append(key)

    def _load_one(self, name: str, value: Tensor, given: Any, key: str, assign: bool) -> str | None:
        """Copies or assigns one tensor; returns what is wrong with it, if anything is."""
        if not isinstance(given, Tensor):
            return f"'{key}': expected a Tensor, got {type(given).__name__}"
        if value.dim() == 0 and tuple(given.shape) == (1,):  # how scalars were once stored
            given = given[0]
        if given.shape != value.shape:
            return (
                f"size mismatch for {key}: the state_dict has shape {tuple(given.shape)}, "
                f"the module has {tuple(value.shape)}"
            )
        try:
            with no_grad():
                if not assign:
                    value.copy_(given)
                elif isinstance(value, Parameter):
                    if not isinstance(given, Parameter):
                        given = Parameter(given, requires_grad=value.requires_grad)
                    setattr(self, name, given)
                else:
                    setattr(self, name, given)
        except Exception as error:
            return f"while loading {key}: {error}"
        return None

    def _load_extra_state(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
    ) -> None:
        key = prefix + _EXTRA_STATE
        if type(self).set_extra_state is not StateDicts.set_extra_state:
            if key in state_dict:
                self.set_extra_state(state_dict[key])
            elif strict:
                missing_keys.append(key)
        elif strict and key in state_dict:
            unexpected_keys.append(key)

    # Hooks

    def register_state_dict_pre_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Calls `hook(module, prefix, keep_vars)` before this module writes its state."""
        return add_hook(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Calls `hook(module, state_dict, prefix, local_metadata)`, which changes `state_dict` in place."""

        def checked(*args: Any) -> None:
            if hook(*args) is not None:
                raise RuntimeError(
                    "a state_dict post hook must change the dict in place, return None"
                )

        return add_hook(self._state_dict_hooks, checked)

    def _register_state_dict_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        return add_hook(self._state_dict_hooks, hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Calls `hook(module, state_dict, prefix, local_metadata, strict, missing, unexpected, errors)`."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(
        self, hook: Callable[..., None], with_module: bool = False
    ) -> RemovableHandle:
        if with_module:
            from functools import partial

            hook = partial(hook, self)
        return add_hook(self._load_state_dict_pre_hooks, hook)

    def register_load_state_dict_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Calls `hook(module, incompatible_keys)` after loading; it may change the lists in place."""
        return add_hook(self._load_state_dict_post_hooks, hook)


def _named(names: list[str], candidates: list[str]) -> str:
    """The names in quotes, each with the nearest candidate if one is near."""
    import difflib

    parts = []
    for name in names:
        longer = [c for c in candidates if name.endswith(f".{c}") or c.endswith(f".{name}")]
        near = longer or difflib.get_close_matches(name, candidates, n=1, cutoff=0.7)
        parts.append(f'"{name}"' + (f' (did you mean "{near[0]}"?)' if near else ""))
    return ", ".join(parts)
