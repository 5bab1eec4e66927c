// Measures pages in frames of given widths: what is cut off, too small, laid over something else, or hard to see.
// A finding is a text. `frames` is filled in by test_report_drawn.py: name, width, whether dark, html.
const smallest = 11, pixel = 1.5;

function luminance([r, g, b]) {
  const lin = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  return 0.2126 * lin(r) + 0.7152 * lin(g) + 0.0722 * lin(b);
}

function channels(text) {
  const found = text.match(/[\d.]+/g);
  return found && (found.length < 4 || Number(found[3]) > 0) ? found.slice(0, 3).map(Number) : null;
}

function behind(node, win) {
  for (let at = node; at; at = at.parentElement) {
    const colour = channels(win.getComputedStyle(at).backgroundColor);
    if (colour) return colour;
  }
  return null;
}

function measure(win, wide) {
  const doc = win.document, found = [];
  doc.querySelectorAll("details").forEach((each) => { each.open = true; });
  const shown = (each) => { const r = each.getBoundingClientRect(); return r.width > 0 && r.height > 0; };
  const said = (each) => JSON.stringify((each.textContent || each.className).trim().slice(0, 40));
  if (doc.documentElement.scrollWidth > wide + 1) found.push(`the page is ${doc.documentElement.scrollWidth} wide`);
  for (const svg of doc.querySelectorAll("svg[role=img]")) {
    if (!shown(svg)) continue;
    const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width, drawn = [];
    for (const label of svg.querySelectorAll("text")) {
      const r = label.getBoundingClientRect(), size = parseFloat(win.getComputedStyle(label).fontSize) * scale;
      if (r.left < box.left - pixel || r.right > box.right + pixel || r.top < box.top - pixel || r.bottom > box.bottom + pixel)
        found.push(`${said(label)} is cut off in ${svg.getAttribute("aria-label")}`);
      if (size < smallest - 0.05) found.push(`${said(label)} has ${size.toFixed(1)} px`);
      for (const [other, o] of drawn)
        if (Math.min(r.right, o.right) - Math.max(r.left, o.left) > pixel && Math.min(r.bottom, o.bottom) - Math.max(r.top, o.top) > 4)
          found.push(`${said(label)} lies over ${said(other)}`);
      drawn.push([label, r]);
    }
  }
  for (const each of doc.querySelectorAll("h1,h2,h3,p,li,dt,dd,td,th,code,a,summary,.pill")) {
    if (!shown(each)) continue;
    const r = each.getBoundingClientRect();
    if (!each.closest(".scroll,pre") && (r.right > wide + pixel || r.left < -pixel)) found.push(`${said(each)} leaves the page`);
    if (each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 0 && !each.querySelector(".scroll,svg"))
      found.push(`${said(each)} is wider than its place`);
    const ink = channels(win.getComputedStyle(each).color), ground = behind(each, win);
    if (ink && ground && each.textContent.trim()) {
      const [a, b] = [luminance(ink), luminance(ground)], contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (contrast < 4.5) found.push(`${said(each)} has a contrast of ${contrast.toFixed(2)}`);
    }
  }
  for (const each of doc.querySelectorAll(".scroll")) {
    const hint = each.nextElementSibling;
    if (shown(each) && each.scrollWidth > each.clientWidth + 1 && !(hint && hint.matches(".swipe") && shown(hint)))
      found.push(`${said(each)} scrolls sideways and nothing says so`);
  }
  return [...new Set(found)];
}

async function all() {
  const results = [];
  for (const { name, width, dark, html } of frames) {
    const frame = document.createElement("iframe");
    frame.style.cssText = `width:${width}px;height:900px;border:0;color-scheme:${dark ? "dark" : "light"}`;
    frame.srcdoc = html;
    const loaded = new Promise((done) => { frame.onload = done; });
    document.body.append(frame);
    await loaded;
    const win = frame.contentWindow;
    results.push({
      name, width: win.innerWidth, dark: win.matchMedia("(prefers-color-scheme: dark)").matches,
      texts: win.document.querySelectorAll("svg text").length, found: measure(win, width),
    });
    frame.remove();
  }
  const out = document.createElement("pre");
  out.id = "measured";
  out.textContent = JSON.stringify(results);
  document.body.replaceChildren(out);
}
all();
