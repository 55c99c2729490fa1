"""What keeps numbers from one call to the next."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar


class Stateful(ABC):
    """Something whose result depends on earlier calls, until `reset`.

    Mixed into a module before its other bases: what the names in `_state_names` hold then goes
    into `state_dict()` and comes back from it, so that a run can be continued.
    """

    _state_names: ClassVar[Sequence[str]] = ()

    @abstractmethod
    def reset(self) -> None:
        """Forget all earlier calls."""

    def get_extra_state(self) -> dict[str, Any]:
        """What `state_dict()` keeps besides parameters and buffers.

        Returns:
            The state by name: tensors, numbers and None.
        """
        return {name: getattr(self, name) for name in self._state_names}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_extra_state` gave.

        Args:
            state: The state by name.
        """
        for name in self._state_names:
            setattr(self, name, state[name])
