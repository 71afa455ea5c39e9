"""Walking a module tree."""

from __future__ import annotations

from fluxion import Tensor

from ..parameter import Parameter
from ._members import BUFFERS, MODULE, PARAMETER, members

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .module import Module


class Traversal:
    """The part of `Module` that lists, finds and replaces what it owns."""

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the direct children, each module once."""
        seen = set()
        for name, child in members(self, (MODULE,)):
            if child is not None and child not in seen:
                seen.add(child)
                yield name, child

    def children(self) -> Iterator[Module]:
        """The direct children, each once."""
        for _, child in self.named_children():
            yield child

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) of this module and all below it, parents first."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, child in members(self, (MODULE,)):
            if child is not None:
                path = f"{prefix}.{name}" if prefix else name
                yield from child.named_modules(memo, path, remove_duplicate)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """This module and all below it, parents first."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def _named_members(
        self,
        get_members_fn: Callable[[Module], Any],
        prefix: str = "",
        recurse: bool = True,
        remove_duplicate: bool = True,
    ) -> Iterator[tuple[str, Any]]:
        """(dotted name, value) of what `get_members_fn(module)` lists, over all modules of the tree."""
        seen = set()
        modules = (
            self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
            if recurse
            else [(prefix, self)]
        )
        for path, module in modules:
            for name, value in get_members_fn(module):
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield (f"{path}.{name}" if path else name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter), each parameter once, in order of registration."""
        return self._named_members(
            lambda module: members(module, (PARAMETER,)), prefix, recurse, remove_duplicate
        )

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once, in order of registration."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, buffer), each buffer once, in order of registration."""
        return self._named_members(
            lambda module: members(module, BUFFERS), prefix, recurse, remove_duplicate
        )

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once, in order of registration."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def apply(self, fn: Callable[[Module], None]) -> Module:
        """Calls `fn` on every module below and then on this one (to initialise, for example). Returns self."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path; "" is this module. Raises AttributeError if there is none."""
        from .module import Module

        module: Any = self
        for name in target.split(".") if target else ():
            child = getattr(module, name, None)
            if child is None:
                raise AttributeError(
                    f"{type(module).__name__} has no child module '{name}' (looking for '{target}')"
                )
            if not isinstance(child, Module):
                raise AttributeError(
                    f"'{name}' of {type(module).__name__} is a {type(child).__name__}, not a Module "
                    f"(looking for '{target}')"
                )
            module = child
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Replaces the module at a dotted path; `strict` requires that one is there already."""
        if target == "":
            raise ValueError("set_submodule: target must not be empty")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if strict and parent._members.get(name) != MODULE:
            raise AttributeError(f"{type(parent).__name__} has no child module '{name}'")
        setattr(parent, name, module)

    def _get_member(self, target: str, kinds: tuple[int, ...], kind_name: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        missing = kind_name == "parameter" and getattr(module, name, None) is None
        if module._members.get(name) not in kinds or missing:
            raise AttributeError(
                f"{type(module).__name__} has no {kind_name} '{name}' (looking for '{target}')"
            )
        return getattr(module, name)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path. Raises AttributeError if there is none."""
        return self._get_member(target, (PARAMETER,), "parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a dotted path. Raises AttributeError if there is none."""
        return self._get_member(target, BUFFERS, "buffer")
