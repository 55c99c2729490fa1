// Handles at the tips of arrows, to drag with mouse or finger and to move by keys. They lie above
// the figure, because what plotly.js draws cannot be reached by a keyboard.

const STEP_DEG = 1;
const COARSE = 10;
// A message that is not answered for so long does not hold back the next.
const PATIENCE_MS = 1000;
const KEYS = {
  ArrowLeft: [1, 0],
  ArrowRight: [-1, 0],
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
};

class Handles {
  constructor(plot) {
    this.plot = plot;
    this.layer = document.createElement("div");
    this.layer.className = "handles";
    this.shaft = document.createElement("div");
    this.shaft.className = "handles-shaft";
    this.shaft.hidden = true;
    this.layer.append(this.shaft);
    this.knobs = [];
    // Angle in degrees and length of each, as seen here: ahead of the server while one is moved.
    this.polar = [];
    this.names = [];
    this.dragged = null;
    this.sent = 0;
    this.waiting = false;
    this.news = null;
  }

  attach(root) {
    if (this.layer.parentElement !== root) root.append(this.layer);
  }

  detach() {
    clearTimeout(this.patience);
    this.layer.remove();
  }

  // What the server drew. An answer to an older message must not move a knob back.
  set({ polar, names, unit, seq }) {
    this.unit = unit;
    this.names = names;
    this.sent = Math.max(this.sent, seq);
    if (seq === this.sent) {
      this.waiting = false;
      if (this.dragged === null && this.news === null) this.polar = polar;
      this.flush();
    }
    while (this.knobs.length > polar.length) this.knobs.pop().remove();
    while (this.knobs.length < polar.length) this.add(this.knobs.length);
    if (this.polar.length !== polar.length) this.polar = polar;
    this.place();
  }

  add(index) {
    const knob = document.createElement("button");
    knob.type = "button";
    knob.className = "handles-knob";
    knob.setAttribute("role", "slider");
    knob.setAttribute("aria-valuemin", "-180");
    knob.setAttribute("aria-valuemax", "180");
    knob.addEventListener("pointerdown", (event) => this.grab(index, event));
    knob.addEventListener("pointermove", (event) => this.drag(index, event));
    for (const name of ["pointerup", "pointercancel"]) {
      knob.addEventListener(name, () => this.release(index));
    }
    knob.addEventListener("keydown", (event) => this.key(index, event));
    this.knobs.push(knob);
    this.layer.append(knob);
  }

  axes() {
    const layout = this.plot.canvas?._fullLayout;
    return layout?.xaxis?.l2p && layout?.yaxis?.l2p ? [layout.xaxis, layout.yaxis] : null;
  }

  // Puts every knob at the tip of its arrow; called whenever plotly.js has drawn.
  place() {
    const axes = this.axes();
    this.layer.hidden = axes === null;
    if (axes === null) return;
    this.knobs.forEach((knob, index) => {
      const [angle, length] = this.polar[index];
      const turn = (angle * Math.PI) / 180;
      const [x, y] = this.pixels(axes, length * Math.cos(turn), length * Math.sin(turn));
      knob.style.transform = `translate(${x}px, ${y}px) translate(-50%, -50%)`;
      const shown = ((((angle + 180) % 360) + 360) % 360) - 180;
      knob.setAttribute("aria-label", this.names[index]);
      knob.setAttribute("aria-valuenow", String(shown));
      knob.setAttribute(
        "aria-valuetext",
        `${this.names[index]}, ${Number(shown.toFixed(1))} degrees, length ${Number(length.toFixed(2))}`,
      );
      if (index === this.dragged) this.draft(axes, x, y);
    });
    this.shaft.hidden = this.dragged === null;
  }

  // The arrow that is being dragged, until the figure shows it.
  draft(axes, x, y) {
    const [left, top] = this.pixels(axes, 0, 0);
    const angle = Math.atan2(y - top, x - left);
    this.shaft.style.width = `${Math.hypot(x - left, y - top)}px`;
    this.shaft.style.transform = `translate(${left}px, ${top}px) rotate(${angle}rad)`;
  }

  pixels([across, up], x, y) {
    return [across._offset + across.l2p(x), up._offset + up.l2p(y)];
  }

  grab(index, event) {
    if (event.button !== 0 || this.plot.wanted === null) return;
    const knob = this.knobs[index];
    knob.setPointerCapture(event.pointerId);
    // Where it was taken, so that the tip does not jump to the pointer.
    const box = knob.getBoundingClientRect();
    this.grip = [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
    this.dragged = index;
    this.place();
  }

  drag(index, event) {
    const axes = this.axes();
    if (this.dragged !== index || axes === null) return;
    const [across, up] = axes;
    const box = this.layer.getBoundingClientRect();
    const px = event.clientX - this.grip[0] - box.left - across._offset;
    const py = event.clientY - this.grip[1] - box.top - up._offset;
    // Not beyond the frame: what leaves it cannot be taken again.
    const x = across.p2l(Math.min(Math.max(px, 0), across._length));
    const y = up.p2l(Math.min(Math.max(py, 0), up._length));
    const length = Math.round(Math.hypot(x, y) / this.unit) * this.unit;
    const angle = (Math.atan2(y, x) * 180) / Math.PI;
    this.move(index, Math.round(angle / STEP_DEG) * STEP_DEG, length);
  }

  release(index) {
    if (this.dragged !== index) return;
    this.dragged = null;
    this.place();
    this.tell(true);
  }

  key(index, event) {
    const way = KEYS[event.key];
    if (way === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const times = event.shiftKey ? COARSE : 1;
    const [angle, length] = this.polar[index];
    this.move(
      index,
      angle + way[0] * times * STEP_DEG,
      Math.max(0, length + way[1] * times * this.unit),
      true,
    );
  }

  move(index, angle, length, done = false) {
    const turned = ((((angle + 180) % 360) + 360) % 360) - 180;
    const [before, size] = this.polar[index];
    // A zero gradient keeps the angle that it had.
    const next = length === 0 ? [before, 0] : [turned, Number(length.toFixed(4))];
    if (next[0] === before && next[1] === size) return;
    this.polar = this.polar.map((one, place) => (place === index ? next : one));
    this.place();
    this.tell(done);
  }

  // At most one message is under way; the newest state follows its answer.
  tell(done) {
    this.news = { polar: this.polar, done };
    this.flush();
  }

  flush() {
    if (this.news === null || this.waiting) return;
    const { polar, done } = this.news;
    this.news = null;
    this.sent += 1;
    this.waiting = true;
    clearTimeout(this.patience);
    this.patience = setTimeout(() => {
      this.waiting = false;
      this.flush();
    }, PATIENCE_MS);
    this.plot.send("moved", { polar, done, seq: this.sent });
  }
}
