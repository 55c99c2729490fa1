// Draws a figure with Plotly.react in one element that stays, so that nothing flickers and the
// visitor's zoom survives. Streamlit calls the default export again with every new figure.

const STORE = Symbol.for("jdviz.plotly");
const RELEASES = ["pointerup", "pointercancel", "blur"];
const RETRY_MS = 1500;
const RETRIES = 5;
// How long a figure waits, drawn, for its element to come back.
const KEEP_MS = 2000;
// Of each element its figure, and the last call for it.
const mounts = new WeakMap();
// By address and name, also those whose element has gone for the moment. Of the whole page, for the
// buttons that save a figure.
const figures = (window[Symbol.for("jdviz.figures")] ??= new Map());

// Where the app is served from. Its own script says so whatever proxy lies between; the server's
// setting is the second choice.
function candidates(source, base) {
  const found = [];
  for (const script of document.querySelectorAll("script[src]")) {
    const place = script.src.search(/\/static\/js\/index[^/]*\.js(\?.*)?$/);
    if (place >= 0) found.push(`${script.src.slice(0, place)}/${source}`);
  }
  const prefix = base ? `/${base}` : "";
  found.push(new URL(`${prefix}/${source}`, window.location.origin).href);
  return [...new Set(found)];
}

// plotly.js writes itself to window.Plotly, where Streamlit's own charts keep another version.
// Watching the property tells which value is whose, whatever else is loaded meanwhile.
function loadScript(url) {
  return new Promise((resolve, reject) => {
    const name = "Plotly";
    let current = window[name];
    let former = current;
    const hadName = "moduleName" in window;
    Object.defineProperty(window, name, {
      configurable: true,
      enumerable: true,
      get: () => current,
      set: (value) => {
        former = current;
        current = value;
      },
    });
    const restore = (value) => {
      delete window[name];
      if (value !== undefined) window[name] = value;
      // A stray global of plotly.js 4's wrapper.
      if (!hadName) delete window.moduleName;
    };
    const script = document.createElement("script");
    script.src = url;
    script.async = true;
    script.onload = () => {
      // The load event follows the script's execution at once: the last value written is ours.
      const ours = current;
      restore(former);
      script.remove();
      if (ours && ours !== former) resolve(ours);
      else reject(new Error("plotly.js did not define itself"));
    };
    script.onerror = () => {
      restore(current);
      script.remove();
      reject(new Error(`could not load ${url}`));
    };
    document.head.append(script);
  });
}

async function loadFirst(urls) {
  let failure;
  for (const url of urls) {
    try {
      return await loadScript(url);
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

// One promise for the whole page, whichever component asks first. A failure is forgotten, so that
// the next figure tries again.
function plotly(source, base) {
  const store = (window[STORE] ??= new Map());
  if (!store.has(source)) {
    const promise = loadFirst(candidates(source, base));
    store.set(source, promise);
    promise.catch(() => store.delete(source));
  }
  return store.get(source);
}

// One figure after the other, and the browser shows each before the next is begun: drawn in one
// go, the first would be seen with the last.
let turn = Promise.resolve();
function inTurn(job) {
  const result = turn.then(job);
  turn = turn.then(() => new Promise((resolve) => setTimeout(resolve, 0)));
  return result;
}

class LivePlot {
  constructor(name) {
    this.name = name;
    // Those that are there, in the order in which they came; the figure is in the last.
    this.parents = new Set();
    this.canvas = null;
    this.wanted = null;
    this.drawn = null;
    this.cells = null;
    this.handles = null;
    this.width = 0;
    this.library = null;
    this.busy = false;
    this.gone = false;
    this.failures = 0;
    this.observer = new ResizeObserver(() => this.draw());
    // A redraw would end the selection that the visitor is dragging, so it waits for the release.
    this.held = false;
    this.hold = () => {
      this.held = true;
    };
    this.release = () => {
      if (!this.held) return;
      this.held = false;
      // After plotly.js has seen the same event.
      setTimeout(() => this.draw(), 0);
    };
    for (const name of RELEASES) window.addEventListener(name, this.release, true);
  }

  // An element that appears above a figure makes Streamlit build the figure's own element anew. It
  // moves there with all that the visitor did to it: no flicker, no lost zoom.
  attach(parent) {
    clearTimeout(this.leaving);
    this.parents.add(parent);
    this.move(parent);
  }

  detach(parent) {
    this.parents.delete(parent);
    const left = [...this.parents].pop();
    if (left) this.move(left);
    else this.leaving = setTimeout(() => this.destroy(), KEEP_MS);
  }

  move(parent) {
    this.root = parent.querySelector(".live-plot");
    this.note = parent.querySelector(".live-plot-note");
    const canvas = parent.querySelector(".live-plot-canvas");
    if (this.canvas === null) {
      this.canvas = canvas;
      canvas.addEventListener("pointerdown", this.hold, true);
    } else if (canvas === null) {
      // It was here before, and was taken along to another element.
      this.root.prepend(this.canvas);
    } else if (canvas !== this.canvas) {
      canvas.replaceWith(this.canvas);
    }
    this.handles?.attach(this.root);
    this.observer.disconnect();
    this.observer.observe(this.root);
    this.say(this.drawn === null ? "Loading the figure …" : "");
  }

  show(data) {
    this.root.style.height = `${data.height}px`;
    if (this.root.getAttribute("aria-label") !== data.alt) {
      this.root.setAttribute("aria-label", data.alt);
    }
    this.wanted = data;
    // The same picture may mean other cells.
    if (data.figure === this.drawn) this.cells = data.cells;
    this.handle(data.handles);
    this.draw();
  }

  handle(handles) {
    if (!handles) {
      this.handles?.detach();
      this.handles = null;
      return;
    }
    this.handles ??= new Handles(this);
    this.handles.attach(this.root);
    this.handles.set(handles);
  }

  // Draws the newest figure; those that arrive while one is being drawn replace each other.
  async draw() {
    if (this.busy || this.gone || this.held || this.wanted === null) return;
    this.busy = true;
    try {
      while (!this.gone && !this.held && this.stale()) await this.drawOnce();
    } catch (error) {
      this.failed(error);
    } finally {
      this.busy = false;
      if (this.gone) this.purge();
    }
  }

  // Nothing is drawn while the element has no width, in a folded part of the page for instance.
  stale() {
    const width = Math.floor(this.root.clientWidth);
    if (this.wanted === null || width === 0) return false;
    return this.wanted.figure !== this.drawn || width !== this.width;
  }

  async drawOnce() {
    const { source, base } = this.wanted;
    let library;
    try {
      library = await plotly(source, base);
    } catch (error) {
      this.retry();
      this.say("This figure needs plotly.js, which could not be loaded. Reload the page.");
      return;
    }
    await inTurn(() => this.paint(library));
  }

  // Much may have changed while the figure waited for its turn.
  async paint(library) {
    if (this.gone || this.held || !this.stale()) return;
    this.library = library;
    const { figure, config, height, cells } = this.wanted;
    const width = Math.floor(this.root.clientWidth);
    const { data, layout } = JSON.parse(figure);
    await library.react(this.canvas, data, { ...layout, width, height }, config);
    if (this.drawn === null) {
      this.canvas.on("plotly_click", (event) => this.clicked(event));
      // Also after a zoom.
      this.canvas.on("plotly_afterplot", () => this.handles?.place());
    }
    this.handles?.place();
    this.drawn = figure;
    this.cells = cells;
    this.width = width;
    this.failures = 0;
    this.say("");
  }

  // Told are the names that the cells had in the figure that was clicked: a newer one may be under
  // way.
  clicked(event) {
    const place = event.points?.[0]?.pointIndex;
    if (!this.cells || !Array.isArray(place)) return;
    this.send("clicked", [this.cells[place[0]], this.cells[place[1]]]);
  }

  // A page that does not tick sends no other figure, so this one is tried again a few times.
  retry() {
    const wanted = this.wanted;
    this.wanted = null;
    this.failures += 1;
    if (this.failures > RETRIES) return;
    setTimeout(() => {
      this.wanted ??= wanted;
      this.draw();
    }, RETRY_MS);
  }

  failed(error) {
    if (this.gone) return;
    this.retry();
    if (this.drawn === null) this.say("This figure could not be drawn.");
    console.warn("live plot:", error);
  }

  say(text) {
    this.note.textContent = text;
    this.note.hidden = text === "";
  }

  destroy() {
    this.gone = true;
    if (figures.get(this.name) === this) figures.delete(this.name);
    this.observer.disconnect();
    for (const name of RELEASES) window.removeEventListener(name, this.release, true);
    this.handles?.detach();
    if (!this.busy) this.purge();
  }

  // Never while a figure is being drawn: plotly.js would go on with an element it has emptied.
  purge() {
    if (this.library) this.library.purge(this.canvas);
    this.library = null;
  }
}

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  // Streamlit calls some time after it has drawn the element. On a busy machine that may have gone
  // by then, and then its figure is already elsewhere.
  if (!parentElement.isConnected) return () => {};
  let mount = mounts.get(parentElement);
  if (mount === undefined) {
    // The same name on another page is another figure.
    const name = `${window.location.pathname} ${data.name}`;
    const plot = figures.get(name) ?? new LivePlot(name);
    figures.set(name, plot);
    mount = { plot, calls: 0 };
    mounts.set(parentElement, mount);
    plot.attach(parentElement);
  }
  mount.plot.send = setTriggerValue;
  mount.plot.show(data);
  mount.calls += 1;
  const call = mount.calls;
  return () => {
    // Also called where newer data came while this call was under way: the element is still there.
    if (mounts.get(parentElement) !== mount || mount.calls !== call) return;
    mounts.delete(parentElement);
    mount.plot.detach(parentElement);
  };
}
