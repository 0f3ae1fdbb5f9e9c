// Looks at every frame as it was laid out, and says what is wrong with it. The page has no script of its own.
"use strict";

const CONTRAST_MIN = 4.5;
// Marks are larger than strokes of letters.
const MARK_CONTRAST_MIN = 3;
const LABEL_PX_MIN = 9;
// Layout rounds to parts of a pixel.
const SLACK_PX = 0.6;

function channels(colour) {
  const numbers = colour.match(/[\d.]+/g).map(Number);
  return { rgb: numbers.slice(0, 3), alpha: numbers.length > 3 ? numbers[3] : 1 };
}

// Relative luminance and contrast as WCAG 2 defines them.
function luminance(colour) {
  const linear = channels(colour).rgb.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}

function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

function ground(view, element) {
  for (let at = element; at; at = at.parentElement) {
    const colour = view.getComputedStyle(at).backgroundColor;
    if (channels(colour).alpha === 1) return colour;
  }
  return "rgb(255, 255, 255)";
}

function overlap(one, other) {
  const wide = Math.min(one.right, other.right) - Math.max(one.left, other.left);
  const high = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
  return wide > SLACK_PX && high > SLACK_PX;
}

function inside(inner, outer) {
  return inner.left >= outer.left - SLACK_PX && inner.right <= outer.right + SLACK_PX &&
    inner.top >= outer.top - SLACK_PX && inner.bottom <= outer.bottom + SLACK_PX;
}

function ownText(element) {
  const isText = (node) => node.nodeType === Node.TEXT_NODE && node.data.trim() !== "";
  const text = [...element.childNodes].filter(isText).map((node) => node.data.trim()).join(" ");
  return element.closest("title, style, head") ? "" : text;
}

function checkWidth(view, wrong) {
  const page = view.document.documentElement;
  if (page.scrollWidth > view.innerWidth) wrong.push(`wider: the page, ${page.scrollWidth} px`);
  for (const element of view.document.body.querySelectorAll("*")) {
    // What a box moves sideways may be wider than the box.
    const box = element.closest(".wide");
    if (box && box !== element) continue;
    const { left, right, width } = element.getBoundingClientRect();
    if (width > 0 && (left < -SLACK_PX || right > view.innerWidth + SLACK_PX)) {
      wrong.push(`wider: ${element.tagName} ${ownText(element)}, ${left} to ${right} px`);
    }
  }
}

function checkText(view, wrong) {
  let seen = 0;
  for (const element of view.document.body.querySelectorAll("*")) {
    const text = ownText(element);
    if (text === "") continue;
    seen += 1;
    const style = view.getComputedStyle(element);
    const colour = element.closest("svg") ? style.fill : style.color;
    const reached = contrast(colour, ground(view, element));
    if (!(reached >= CONTRAST_MIN)) wrong.push(`contrast: ${reached.toFixed(2)} of ${text}`);
  }
  return seen;
}

function checkChart(view, chart, wrong) {
  const name = chart.getAttribute("aria-label");
  const box = chart.getBoundingClientRect();
  const plot = chart.querySelector(".plot").getBoundingClientRect();
  if (!(plot.width > 100 && plot.height > 20)) wrong.push(`empty: ${name} has no plot`);
  const marks = [...chart.querySelectorAll(".mark")];
  const drawn = marks.filter((mark) => {
    const { left, top, width, height } = mark.getBoundingClientRect();
    const middle = { left: left + width / 2, top: top + height / 2 };
    const isInside = inside({ ...middle, right: middle.left, bottom: middle.top }, plot);
    if (width > 0 && !isInside) wrong.push(`outside: a mark of ${name}`);
    const colour = view.getComputedStyle(mark).fill;
    const reached = contrast(colour, ground(view, chart));
    if (!(reached >= MARK_CONTRAST_MIN)) wrong.push(`contrast: ${reached.toFixed(2)} of a mark of ${name}`);
    return width > 0 && height > 0;
  });
  if (drawn.length === 0 || drawn.length < marks.length) {
    wrong.push(`empty: ${name} shows ${drawn.length} of ${marks.length} marks`);
  }
  const size = chart.viewBox.baseVal.width;
  for (const label of chart.querySelectorAll("text")) {
    const rect = label.getBoundingClientRect();
    const px = parseFloat(view.getComputedStyle(label).fontSize) * box.width / size;
    if (!(px >= LABEL_PX_MIN)) wrong.push(`small: ${label.textContent} of ${name}, ${px} px`);
    if (!(rect.width > 0 && rect.height > 0)) wrong.push(`no font: ${label.textContent} of ${name}`);
    if (!inside(rect, box)) wrong.push(`outside: ${label.textContent} of ${name}`);
  }
  return drawn.length;
}

function checkLabels(figure, wrong) {
  const labels = [...figure.querySelectorAll("figcaption, .legend li, text, .note")];
  const rects = labels.map((label) => label.getBoundingClientRect());
  for (let at = 0; at < labels.length; at += 1) {
    for (let before = 0; before < at; before += 1) {
      if (overlap(rects[at], rects[before])) {
        const name = figure.querySelector("figcaption").textContent;
        wrong.push(`overlap: ${ownText(labels[before])} and ${ownText(labels[at])} in ${name}`);
      }
    }
  }
  return labels.length;
}

function look(frame) {
  const view = frame.contentWindow;
  const wrong = [];
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  const charts = [...view.document.querySelectorAll("svg.chart")];
  checkWidth(view, wrong);
  return {
    page: Number(frame.dataset.page),
    width: view.innerWidth,
    dark: view.matchMedia("(prefers-color-scheme: dark)").matches,
    texts: checkText(view, wrong),
    charts: charts.length,
    marks: sum(charts.map((chart) => checkChart(view, chart, wrong))),
    labels: sum([...view.document.querySelectorAll("figure")].map((it) => checkLabels(it, wrong))),
    wrong,
  };
}

addEventListener("load", () => {
  let said;
  try {
    said = { looks: [...document.querySelectorAll("iframe")].map(look) };
  } catch (error) {
    said = { failed: String(error) };
  }
  const escape = (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`;
  const text = JSON.stringify(said).replace(/[<>&\u007f-\uffff]/g, escape);
  document.body.replaceChildren(document.createTextNode(`SAID${text}DIAS`));
});
