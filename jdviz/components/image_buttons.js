// Saves a figure as it is on the screen, zoom and all, with its title above it. Made in the browser
// by the library that drew the figure: the server is not asked.

const FIGURES = Symbol.for("jdviz.figures");
const TITLE = { size: 16, linePx: 22, padPx: 14, letterPx: 8.5 };
const SCALE = 2;

// A figure's own title is on the page and not in it, so a file of its own needs it. Its words are
// no markup.
function lines(text, width) {
  const most = Math.max(12, Math.floor((width - 2 * TITLE.padPx) / TITLE.letterPx));
  const found = [""];
  for (const word of text.split(/\s+/)) {
    const line = `${found.at(-1)} ${word}`.trim();
    if (line.length > most && found.at(-1) !== "") found.push(word);
    else found[found.length - 1] = line;
  }
  const plain = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };
  return found.map((line) => line.replace(/[&<>]/g, (letter) => plain[letter]));
}

function titled(canvas, title, width, height) {
  const words = lines(title, width);
  const more = words.length * TITLE.linePx + TITLE.padPx;
  const layout = structuredClone(canvas.layout);
  layout.title = {
    text: words.join("<br>"),
    font: { size: TITLE.size },
    x: 0,
    xanchor: "left",
    y: 1,
    yanchor: "top",
    yref: "container",
    pad: { l: TITLE.padPx, t: TITLE.padPx },
  };
  layout.margin = { ...layout.margin, t: (layout.margin?.t ?? 0) + more };
  return {
    figure: { data: canvas.data, layout },
    size: { width, height: height + more },
  };
}

async function save(data, format) {
  const plot = window[FIGURES]?.get(`${window.location.pathname} ${data.plot}`);
  if (!plot?.library || plot.drawn === null) return "The figure is not drawn yet.";
  const { width, height } = plot.canvas._fullLayout;
  const { figure, size } = titled(plot.canvas, data.title, width, height);
  // A drawing has no resolution; a picture on a projector needs more than the screen's.
  const scale = format === "png" ? SCALE : 1;
  await plot.library.downloadImage(figure, { ...size, format, scale, filename: data.file });
  return "";
}

export default function (component) {
  const { parentElement, data } = component;
  const note = parentElement.querySelector(".image-buttons-note");
  for (const button of parentElement.querySelectorAll(".image-buttons-one")) {
    button.setAttribute("aria-label", `Save as ${button.textContent}: ${data.title}`);
    button.onclick = async () => {
      try {
        note.textContent = await save(data, button.dataset.format);
      } catch (error) {
        note.textContent = "The picture could not be made.";
        console.warn("image buttons:", error);
      }
    };
  }
}
