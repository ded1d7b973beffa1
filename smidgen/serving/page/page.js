"use strict";

// Okabe and Ito's colors, which people of all color vision tell apart.
const COLORS = ["#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#D55E00", "#009E73", "#0072B2", "#FFFFFF"];
const LOWEST_SCORE = 0.05; // the slider chooses among these
const element = (name) => document.getElementById(name);
const shown = { image: null, answer: null, salience: null };
let asked = 0;

function say(words, failed = false) {
  element("state").textContent = words;
  element("state").classList.toggle("failed", failed);
}

async function detect(blob) {
  const number = ++asked;
  say("detecting …");
  document.body.dataset.state = "asking";
  try {
    const began = performance.now();
    const [image, answer] = await Promise.all([decoded(blob), answered(blob)]);
    if (number !== asked) return; // another picture was chosen meanwhile
    Object.assign(shown, { image, answer, salience: await map(answer.salience) });
    element("salience-choice").hidden = !shown.salience;
    element("answer").hidden = false;
    draw();
    say(`${answer.width} × ${answer.height} px, answered in ${((performance.now() - began) / 1000).toFixed(2)} s`);
    document.body.dataset.state = "answered";
  } catch (error) {
    if (number !== asked) return;
    element("answer").hidden = true;
    say(error.message, true);
    document.body.dataset.state = "failed";
  }
}

async function answered(blob) {
  const response = await fetch(`predict?score=${LOWEST_SCORE}&salience=1`, {
    method: "POST", body: blob, headers: { "Content-Type": "application/octet-stream" },
  }).catch(() => { throw new Error("the server does not answer"); });
  const content = await response.json().catch(() => ({ error: `status ${response.status}`, hint: "" }));
  if (!response.ok) throw new Error([content.error, content.hint].filter(Boolean).join(" – "));
  return content.images[0];
}

// The server turns pictures upright as EXIF says, and so does the browser. What it cannot show (TIFF) is left gray.
async function decoded(blob) {
  return createImageBitmap(blob, { imageOrientation: "from-image" }).catch(() => null);
}

async function map(salience) {
  if (!salience) return null;
  const bytes = Uint8Array.from(atob(salience.png), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const pen = canvas.getContext("2d");
  pen.drawImage(bitmap, 0, 0);
  const pixels = pen.getImageData(0, 0, canvas.width, canvas.height);
  const top = pixels.data.reduce((most, value, index) => (index % 4 ? most : Math.max(most, value)), 1);
  for (let index = 0; index < pixels.data.length; index += 4) {
    const value = pixels.data[index] / top;
    pixels.data.set([255, 40 + 200 * value, 30, 215 * value], index);
  }
  pen.putImageData(pixels, 0, 0);
  return { canvas, covers: salience.covers };
}

function factor() {
  const { width, height } = shown.answer;
  const room = [element("view").clientWidth / width, (window.innerHeight * 0.78) / height];
  const fitting = Math.min(...room);
  return (fitting >= 1 ? Math.min(4, Math.floor(fitting * 4) / 4) : fitting) * 2 ** Number(element("zoom").value);
}

function draw() {
  const scale = Math.min(factor(), 8192 / Math.max(shown.answer.width, shown.answer.height));
  const canvas = element("picture");
  const { width, height } = shown.answer;
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#777";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.imageSmoothingEnabled = scale < 1;
  if (shown.image) pen.drawImage(shown.image, 0, 0, canvas.width, canvas.height);
  if (shown.salience && element("salience").checked) drawSalience(pen, scale);
  drawBoxes(pen, scale);
}

function drawSalience(pen, scale) {
  const { canvas, covers } = shown.salience;
  pen.fillStyle = "rgba(0, 0, 0, 0.45)";
  pen.fillRect(0, 0, pen.canvas.width, pen.canvas.height);
  pen.drawImage(canvas, 0, 0, covers[0] * scale, covers[1] * scale);
}

function drawBoxes(pen, scale) {
  const lowest = Number(element("score").value);
  element("threshold").textContent = lowest.toFixed(2);
  const kept = shown.answer.detections.filter((one) => one.score >= lowest);
  const names = [...new Set(shown.answer.detections.map((one) => one.category))].sort();
  const color = (name) => COLORS[names.indexOf(name) % COLORS.length];
  pen.lineWidth = scale >= 2 ? 2 : 1.5;
  for (const one of kept.toReversed()) { // the best on top
    const [x, y, width, height] = one.bbox.map((value) => value * scale);
    pen.strokeStyle = color(one.category);
    pen.strokeRect(x - 1, y - 1, width + 2, height + 2); // around the object, not on it
  }
  legend(names.map((name) => [name, color(name), kept.filter((one) => one.category === name).length]));
  document.body.dataset.boxes = kept.length;
}

function legend(entries) {
  const lines = entries.map(([name, color, count]) => {
    const line = document.createElement("li");
    const mark = document.createElement("span");
    mark.style.borderColor = color;
    line.append(mark, `${name} ${count}`);
    return line;
  });
  const nothing = document.createElement("li");
  nothing.textContent = "nothing found";
  element("legend").replaceChildren(...(lines.length ? lines : [nothing]));
}

// A gray field with a few bright rectangles: enough to see that everything works.
async function drawnPicture() {
  const canvas = new OffscreenCanvas(320, 240);
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#333";
  pen.fillRect(0, 0, 320, 240);
  pen.fillStyle = "#fff";
  for (const [x, y] of [[40, 50], [150, 90], [250, 180]]) pen.fillRect(x, y, 18, 10);
  return canvas.convertToBlob({ type: "image/png" });
}

element("file").addEventListener("change", (event) => event.target.files[0] && detect(event.target.files[0]));
element("drawn").addEventListener("click", async () => detect(await drawnPicture()));
for (const name of ["score", "zoom", "salience"]) element(name).addEventListener("input", () => draw());
window.addEventListener("resize", () => shown.answer && draw());
window.addEventListener("dragover", (event) => { event.preventDefault(); element("drop").classList.add("over"); });
window.addEventListener("dragleave", () => element("drop").classList.remove("over"));
window.addEventListener("drop", (event) => {
  event.preventDefault();
  element("drop").classList.remove("over");
  if (event.dataTransfer.files[0]) detect(event.dataTransfer.files[0]);
});
fetch("health").then((response) => response.json()).then((state) => {
  element("model").textContent = `${state.model} on ${state.device}`;
}).catch(() => {});
if (location.hash === "#try") drawnPicture().then(detect);
