"""A visitor without a browser: what a page's tab says to Streamlit's server, and what it hears."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Button_pb2 import Button
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from jdviz.profiling import MeasurementError

WAIT_S = 60.0


@contextmanager
def open_tab(url: str, page: str, query: str = "") -> Iterator["Tab"]:
    """Opens a page of the app; leaving the context closes it, without a word.

    Args:
        url: The server.
        page: The page's path, such as "train"; "" for the first page.
        query: The address's settings, without "?".

    Yields:
        The tab.
    """
    with connect(
        f"{url.replace('http', 'ws', 1)}/_stcore/stream",
        subprotocols=[Subprotocol("streamlit")],
        max_size=None,
    ) as socket:
        yield Tab(socket, page, query)


class Tab:
    """An open tab. To the server it is a visitor like any other.

    It asks again for the parts of a page that renew themselves, as a browser does, and draws
    nothing.

    Args:
        socket: Connected to the server.
        page: The page's path.
        query: The address's settings.

    Attributes:
        query: The settings as the page has changed them since.
    """

    def __init__(self, socket: ClientConnection, page: str, query: str) -> None:
        self.query = query
        self._socket = socket
        self._page = page
        self._hash = ""
        self._buttons: dict[str, str] = {}
        self._due_s: dict[str, float] = {}
        self._interval_s: dict[str, float] = {}
        self._ask(ClientState())

    def press(self, key: str) -> None:
        """Presses a button, once it is there and can be pressed.

        Args:
            key: The button's key.

        Raises:
            MeasurementError: It does not come to that within a minute.
        """
        self._listen(f"button “{key}”", lambda _: key in self._buttons)
        state = WidgetState(id=self._buttons.pop(key), trigger_value=True)
        self._ask(ClientState(widget_states=WidgetStates(widgets=[state])))

    def wait_for(self, pattern: str) -> None:
        """Waits until the page says something, from now on.

        Args:
            pattern: A regular expression of what it is to say.

        Raises:
            MeasurementError: It does not say so within a minute.
        """
        wanted = re.compile(pattern.encode())
        self._listen(f"“{pattern}”", lambda heard: wanted.search(heard) is not None)

    def _ask(self, state: ClientState) -> None:
        """Asks for a run of the page's script, or of one of its fragments."""
        state.query_string = self.query
        if self._hash:
            state.page_script_hash = self._hash
        else:
            state.page_name = self._page
        self._socket.send(BackMsg(rerun_script=state).SerializeToString())

    def _listen(self, what: str, enough: Callable[[bytes], bool]) -> None:
        """Hears one message after the other until one is enough."""
        end_s, heard = time.monotonic() + WAIT_S, b""
        while not enough(heard):
            now_s = time.monotonic()
            if now_s > end_s:
                raise MeasurementError(f"got no {what} within {WAIT_S:g} s; try again.")
            for fragment, due_s in self._due_s.items():
                if due_s <= now_s:
                    self._due_s[fragment] = now_s + self._interval_s[fragment]
                    self._ask(ClientState(fragment_id=fragment, is_auto_rerun=True))
            try:
                heard = self._socket.recv(min([end_s, *self._due_s.values()]) - now_s, decode=False)
            except TimeoutError:
                heard = b""
            else:
                self._take(ForwardMsg.FromString(heard))

    def _take(self, message: ForwardMsg) -> None:
        """Notes what a browser would have to know of a message."""
        kind = message.WhichOneof("type")
        if kind == "new_session" and not message.metadata.run.fragment_ids:
            self._due_s.clear()
        elif kind == "navigation":
            self._hash = message.navigation.page_script_hash
        elif kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        elif kind == "auto_rerun":
            fragment = message.auto_rerun.fragment_id
            self._interval_s[fragment] = message.auto_rerun.interval
            self._due_s[fragment] = time.monotonic() + message.auto_rerun.interval
        elif kind == "stop_auto_rerun":
            for fragment in message.stop_auto_rerun.fragment_ids:
                self._due_s.pop(fragment, None)
        elif kind == "delta" and message.delta.new_element.WhichOneof("type") == "button":
            self._meet(message.delta.new_element.button)

    def _meet(self, button: Button) -> None:
        # Streamlit puts the key that a script gives at the end of the widget's identifier.
        key = button.id.rpartition("-")[2]
        if button.disabled:
            self._buttons.pop(key, None)
        else:
            self._buttons[key] = button.id
