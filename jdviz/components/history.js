// Every setting that changes changes the address, and Streamlit makes an entry of the browser's
// history of each name that does. Here what a visitor does is one entry, however many settings it
// changes, and what a page writes as it opens is none: the way back leads through what was done.
// Once for the whole window, whichever figure comes first.
if (!window[Symbol.for("jdviz.history")]) {
  window[Symbol.for("jdviz.history")] = true;
  const SETTLE_MS = 100;
  const history = window.history;
  const push = history.pushState.bind(history);
  let acted = false;
  let waiting = null;
  const opened = () => {
    clearTimeout(waiting);
    waiting = null;
    acted = false;
  };
  for (const name of ["pointerdown", "keydown"]) {
    window.addEventListener(name, () => (acted = true), true);
  }
  window.addEventListener("popstate", opened, true);
  history.pushState = (state, title, url) => {
    const there = new URL(url ?? "", window.location.href);
    if (there.pathname !== window.location.pathname) {
      // What still waits was written by the page that opens now, whose address has it too.
      opened();
      push(state, title, url);
    } else if (acted) {
      clearTimeout(waiting);
      waiting = setTimeout(() => {
        waiting = null;
        if (there.href !== window.location.href) push(state, title, url);
      }, SETTLE_MS);
    } else {
      history.replaceState(state, title, url);
    }
  };
}
