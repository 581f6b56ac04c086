// The page of a dataset: choosing a sample shows its views; choosing a view shows its rectangle and its label.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("ladd-data").textContent);
  const inspector = document.getElementById("inspector");
  if (!inspector) return;
  const [width, height] = data.size;
  const picture = document.getElementById("picture");
  const cells = document.getElementById("views");
  const thumbs = [...document.querySelectorAll("button.thumb")];
  const rows = [...document.getElementById("bars").children];
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const share = (p) => (p > 0 && p < 0.001 ? "< 0.1 %" : `${(100 * p).toFixed(p < 0.9995 ? 1 : 0)} %`);
  const name = (label) => data.names[label];
  let record = 0, chosen = 0;

  const isSoft = (view) => view === data.views;
  const title = (view) => (isSoft(view) ? "Whole image, the distiller's own label" : `View ${view + 1} of ${data.views}`);

  function frame(view) {
    const at = data.records[record];
    const [y, x, h, w] = (at.boxes || data.boxes)[view];
    document.querySelector("#crop .shade").setAttribute("d", `M0 0H${width}V${height}H0ZM${x} ${y}h${w}v${h}h${-w}Z`);
    for (const rect of document.querySelectorAll("#crop rect")) {
      for (const [key, value] of Object.entries({ x, y, width: w, height: h })) rect.setAttribute(key, value);
    }
  }

  function bars(label, hard) {
    const lines = [];
    let rest = 1;
    for (let i = 2; i < label.length; i += 2) {
      lines.push([name(label[i]), label[i + 1], label[i] === hard ? "hard" : "other"]);
      rest -= label[i + 1];
    }
    const count = lines.length;
    if (!lines.some((line) => line[2] === "hard")) {
      lines.push([name(hard), label[1], "hard"]);
      rest -= label[1];
    }
    if (rest > 0.0015 || lines.length > count) lines.push(["all other classes", Math.max(0, rest), "rest"]);
    return lines;
  }

  function draw(lines) {
    rows.forEach((row, place) => {
      const [who, much, kind] = lines[place] || ["", null, "none"];
      row.className = kind;
      row.hidden = false;
      row.children[0].textContent = who;
      row.children[0].title = who;
      row.children[1].style.setProperty("--share", much || 0);
      row.children[2].textContent = much === null ? "" : share(much);
      row.setAttribute("aria-hidden", lines[place] ? "false" : "true");
    });
  }

  function choose(view) {
    const at = data.records[record], label = at.views[view];
    [...cells.children].forEach((cell, place) => {
      cell.setAttribute("aria-pressed", place === view ? "true" : "false");
      cell.tabIndex = place === view ? 0 : -1;
    });
    chosen = view;
    frame(view);
    const flipped = at.flips && at.flips[view] ? ", mirrored" : "";
    document.getElementById("said").textContent = label
      ? `${title(view)}${flipped}: ${share(label[1])} on the hard class, entropy ${label[0].toFixed(2)} bits.`
      : `${title(view)}${flipped}: missing, it has no label.`;
    draw(label ? bars(label, at.label) : []);
  }

  function show(number) {
    const at = data.records[number];
    record = number;
    thumbs.forEach((thumb, place) => {
      thumb.tabIndex = place === number ? 0 : -1;
      thumb.setAttribute("aria-pressed", place === number ? "true" : "false");
    });
    const image = thumbs[number].querySelector("img");
    picture.src = image.src;
    picture.alt = image.alt;
    document.getElementById("which").textContent = `${name(at.label)} · ${at.id}`;
    if (cells.children.length !== at.views.length) build(at.views.length);
    at.views.forEach((label, view) => {
      const cell = cells.children[view];
      cell.style.setProperty("--share", label ? label[1] : 0);
      cell.classList.toggle("missing", !label);
      cell.setAttribute("aria-label", label ? `${title(view)}: ${share(label[1])} on the hard class` : `${title(view)}: missing`);
    });
    const first = at.views[chosen] ? chosen : at.views.findIndex(Boolean);
    choose(Math.max(0, first));
  }

  function build(count) {
    const columns = Number(cells.dataset.columns) || Math.min(12, Math.ceil(Math.sqrt(count)));
    cells.style.setProperty("--columns", columns);
    cells.replaceChildren(...Array.from({ length: count }, (_, view) => {
      const cell = document.createElement("button");
      cell.type = "button";
      cell.classList.toggle("soft", isSoft(view));
      for (const event of ["mouseenter", "focus", "click"]) cell.addEventListener(event, () => choose(view));
      return cell;
    }));
  }

  /** The place that an arrow key leads to among elements in rows, by where they are on the screen. */
  function step(key, list, place) {
    const last = list.length - 1;
    if (key === "Home") return 0;
    if (key === "End") return last;
    if (key === "ArrowLeft") return Math.max(0, place - 1);
    if (key === "ArrowRight") return Math.min(last, place + 1);
    if (key !== "ArrowUp" && key !== "ArrowDown") return -1;
    const here = list[place].getBoundingClientRect(), sign = key === "ArrowDown" ? 1 : -1;
    let best = place, nearest = Infinity;
    list.forEach((other, number) => {
      const there = other.getBoundingClientRect(), down = sign * (there.top - here.top);
      if (down < here.height / 2) return;
      const far = 8 * down + Math.abs(there.left - here.left);
      if (far < nearest) [best, nearest] = [number, far];
    });
    return best;
  }

  function move(event, list, then) {
    const place = list.indexOf(document.activeElement);
    const next = place < 0 ? -1 : step(event.key, list, place);
    if (next < 0) return;
    event.preventDefault();
    then(next);
    list[next].focus();
  }

  cells.addEventListener("keydown", (event) => {
    if (event.key === "Escape") thumbs[record].focus();
    else move(event, [...cells.children], choose);
  });
  document.getElementById("samples-grid").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && document.activeElement.matches("button.thumb")) {
      event.preventDefault();
      cells.children[chosen].focus();
    } else move(event, thumbs, show);
  });
  thumbs.forEach((thumb, number) => thumb.addEventListener("click", () => {
    show(number);
    const top = inspector.getBoundingClientRect().top;
    if (top < 0 || top > innerHeight - 200) inspector.scrollIntoView({ behavior: calm.matches ? "auto" : "smooth" });
  }));
  document.documentElement.classList.add("live");
  if (thumbs.length) {  // begin where there is most to see: the view that is surest of the hard class
    const sure = data.records[0].views.map((label) => (label ? label[1] : -1));
    chosen = sure.indexOf(Math.max(...sure));
    show(0);
  }
})();
