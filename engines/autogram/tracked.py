"""Collects the parameters that a Jacobian is taken with respect to."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property

from torch import Tensor, nn


class Tracked:
    """The trainable parameters of some modules at one moment, each once.

    Args:
        modules: The modules.

    Attributes:
        parameters: In the order of `named_parameters`.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._modules = modules
        self.parameters: list[Tensor] = list(_collected(modules))

    @cached_property
    def names(self) -> list[str]:
        """For every parameter a path that a reader can follow."""
        return [name for name, _ in self._named()]

    @cached_property
    def owners(self) -> list[str]:
        """For every parameter the path of the module that owns it, "" for the module itself."""
        return [name.rpartition(".")[0] for name in self.names]

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters with their paths, those of several modules under the modules' names."""
        met: set[int] = set()
        repeated = Counter(type(module).__name__ for module in self._modules)
        for position, module in enumerate(self._modules):
            name = type(module).__name__
            label = name if repeated[name] == 1 else f"{name}[{position}]"
            prefix = "" if len(self._modules) == 1 else f"{label}."
            for path, parameter in module.named_parameters():
                if parameter.requires_grad and id(parameter) not in met:
                    met.add(id(parameter))
                    yield prefix + path, parameter


def _collected(modules: Sequence[nn.Module]) -> Iterator[Tensor]:
    """What `named_parameters` gives, without names, which cost more than the rest.

    A module that has its own idea of its parameters is asked for them.
    """
    met: set[int] = set()
    for top in modules:
        if type(top).named_parameters is not nn.Module.named_parameters:
            found: list[Tensor] = [parameter for _, parameter in top.named_parameters()]
        else:
            found = list(_walked(top))
        for parameter in found:
            if parameter.requires_grad and id(parameter) not in met:
                met.add(id(parameter))
                yield parameter


def _walked(top: nn.Module) -> Iterator[Tensor]:
    """Parameters of a module and of those in it, a module before its children."""
    pending: list[nn.Module | None] = [top]
    met: set[nn.Module] = set()
    while pending:
        module = pending.pop()
        if module is None or module in met:
            continue
        met.add(module)
        for parameter in module._parameters.values():
            if parameter is not None:
                yield parameter
        pending.extend(reversed(module._modules.values()))
