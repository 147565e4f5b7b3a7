// What the console's pages do beyond reading: live updates, copying, relative times, pickers. Every page works without it.

const body = document.body;
const language = body.dataset.language || "en";

// ---- times: relative text kept current, absolute in the reader's zone ----

const relativeFormat = new Intl.RelativeTimeFormat(language, { numeric: "auto", style: "short" });
const momentFormat = new Intl.DateTimeFormat(language, {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false,
  timeZoneName: "short",
});
const clockFormat = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const hourFormat = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", hour12: false });
const dayFormat = new Intl.DateTimeFormat(language, { month: "2-digit", day: "2-digit" });

const SPANS = [[60, "second"], [3600, "minute"], [86400, "hour"], [60 * 86400, "day"]];

function relative(moment) {
  const seconds = (moment - Date.now()) / 1000;
  const away = Math.abs(seconds);
  if (away < 45) return relativeFormat.format(0, "second");
  let divisor = 1;
  for (const [limit, unit] of SPANS) {
    if (away < limit) return relativeFormat.format(Math.round(seconds / divisor), unit);
    divisor = limit;
  }
  return dayFormat.format(moment);
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function showTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    if ("relative" in element.dataset && Math.abs(moment - Date.now()) < 60 * 86400e3) setText(element, relative(moment));
    if ("clock" in element.dataset) setText(element, clockFormat.format(moment));
    element.title = momentFormat.format(moment);
  }
  for (const element of root.querySelectorAll("[data-tick]")) {
    const moment = new Date(element.dataset.tick);
    setText(element, (element.dataset.tickHours === "1" ? hourFormat : dayFormat).format(moment));
  }
}

// ---- live: when the server says something changed, the page asks for itself and takes over what differs ----

function sameKind(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");
}

/** Makes `old` look like `fresh` and touches only what differs, so that focus, scroll and selection stay. */
function morph(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE || old.isEqualNode(fresh)) return;
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && name !== "data-seen") old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  let at = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    let match = at && sameKind(at, wanted) ? at : null;
    if (!match && wanted.id) {
      match = [...old.childNodes].find((child) => sameKind(child, wanted)) || null;
      if (match) old.insertBefore(match, at);
    }
    if (match) {
      morph(match, wanted);
      at = match.nextSibling;
    } else {
      old.insertBefore(document.importNode(wanted, true), at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

const liveParts = () => [...document.querySelectorAll("[data-live][id]")];
let isAsking = false;
let isWanted = false;

async function refresh() {
  if (isAsking) {
    isWanted = true;
    return;
  }
  isAsking = true;
  try {
    const answer = await fetch(location.href, { headers: { "X-Live": "1" }, credentials: "same-origin" });
    if (!answer.ok || answer.redirected) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of liveParts()) {
      const replacement = fresh.getElementById(part.id);
      if (!replacement) continue;
      const atEnd = "follow" in part.dataset && part.scrollHeight - part.scrollTop - part.clientHeight < 24;
      morph(part, replacement);
      if (atEnd) part.scrollTop = part.scrollHeight;
    }
    enhance(document);
  } catch {
    // The feed says when the connection is gone; there is nothing to add.
  } finally {
    isAsking = false;
    if (isWanted) {
      isWanted = false;
      setTimeout(refresh, 400);
    }
  }
}

function showConnected(isConnected) {
  for (const element of document.querySelectorAll("[data-live-state]")) {
    element.classList.toggle("is-lost", !isConnected);
    setText(element, isConnected ? element.dataset.on : element.dataset.off);
  }
}

function listen() {
  if (!body.dataset.formToken) return;
  const run = document.querySelector("[data-run]");
  const topics = new Set(liveParts().flatMap((part) => part.dataset.live.split(" ")));
  const feed = new EventSource(run ? `/live?run=${encodeURIComponent(run.dataset.run)}` : "/live");
  feed.addEventListener("open", () => showConnected(true));
  feed.addEventListener("error", () => showConnected(false));
  feed.addEventListener("lost", () => showConnected(false));
  feed.addEventListener("ended", () => {
    feed.close();
    location.reload();
  });
  feed.addEventListener("change", (event) => {
    showConnected(true);
    const change = JSON.parse(event.data);
    if (change.topics.some((topic) => topic === "all" || topics.has(topic))) refresh();
  });
  addEventListener("pagehide", () => feed.close());
}

// ---- small things ----

function enhance(root) {
  showTimes(root);
  for (const button of root.querySelectorAll("[data-copy][hidden]")) button.hidden = false;
  for (const picture of root.querySelectorAll("[data-end]:not([data-seen])")) {
    picture.dataset.seen = "1";
    picture.scrollLeft = picture.scrollWidth;
  }
  for (const list of root.querySelectorAll("[data-follow]:not([data-seen])")) {
    list.dataset.seen = "1";
    list.scrollTop = list.scrollHeight;
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) {
    const before = button.innerHTML;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(button.previousElementSibling);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      return;
    }
    button.textContent = button.dataset.done;
    setTimeout(() => (button.innerHTML = before), 1600);
  }
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("details[data-menu][open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  }
  const isTyping = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const search = document.getElementById("search");
    if (search) {
      event.preventDefault();
      search.focus();
      search.select();
    }
  }
});

// A form is sent once: a second press of the button changes nothing.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "1";
  setTimeout(() => delete form.dataset.sent, 4000);
});
addEventListener("pageshow", () => {
  for (const form of document.forms) delete form.dataset.sent;
});

// ---- pickers ----

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") made.textContent = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const SIZES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
function size(bytes) {
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < SIZES.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${SIZES[unit]}`;
}

async function ask(address) {
  const answer = await fetch(address, { credentials: "same-origin" });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.detail || answer.statusText);
  return content;
}

/** Browses the directories of a host and adds paths to a text field, one a line. */
function browser(picker) {
  const field = document.getElementById(picker.dataset.into);
  const lines = () => field.value.split("\n").filter((line) => line.trim());
  let shown = "/";

  function row(entry) {
    const isDirectory = entry.kind === "directory";
    const name = isDirectory
      ? element("button", { type: "button", class: "link-button", text: `${entry.name}/` })
      : element("span", { text: entry.name });
    if (isDirectory) name.addEventListener("click", () => show(entry.path));
    const has = lines().includes(entry.path);
    const add = element("button", {
      type: "button", class: "button slim", "aria-label": `${picker.dataset.wordAdd} ${entry.path}`,
      text: has ? picker.dataset.wordAdded : picker.dataset.wordAdd,
    });
    add.disabled = has;
    add.addEventListener("click", () => {
      field.value = [...lines(), entry.path].join("\n");
      add.disabled = true;
      add.textContent = picker.dataset.wordAdded;
    });
    return element("li", {}, element("span", { class: "grow mono break" }, name),
      element("span", { class: "quiet small number", text: isDirectory ? "" : size(entry.size_bytes) }), add);
  }

  function head(path) {
    const parts = path.split("/").filter(Boolean);
    const nav = element("div", { class: "path" });
    const root = element("button", { type: "button", class: "link-button", text: "/" });
    root.addEventListener("click", () => show("/"));
    nav.append(root);
    parts.forEach((part, index) => {
      const there = `/${parts.slice(0, index + 1).join("/")}`;
      const link = element("button", { type: "button", class: "link-button", text: part });
      link.addEventListener("click", () => show(there));
      nav.append(link, element("span", { "aria-hidden": "true", text: "/" }));
    });
    const whole = element("button", {
      type: "button", class: "button slim end", text: picker.dataset.wordAdd, "aria-label": `${picker.dataset.wordAdd} ${path}`,
    });
    whole.addEventListener("click", () => {
      if (!lines().includes(path)) field.value = [...lines(), path].join("\n");
    });
    nav.append(whole);
    return nav;
  }

  async function show(path) {
    shown = path;
    picker.setAttribute("aria-busy", "true");
    const list = element("ul");
    try {
      const page = await ask(`${picker.dataset.browse}?path=${encodeURIComponent(path)}`);
      if (shown !== path) return;
      const entries = [...page.items].sort((a, b) => (b.kind === "directory") - (a.kind === "directory"));
      list.append(...entries.map(row));
      if (!entries.length) list.append(element("li", { class: "quiet", text: picker.dataset.wordEmpty }));
      if (page.next_cursor) list.append(element("li", { class: "quiet", text: picker.dataset.wordMore }));
    } catch (error) {
      list.append(element("li", { role: "alert", text: error.message }));
    }
    picker.replaceChildren(head(path), list);
    picker.removeAttribute("aria-busy");
  }

  picker.hidden = false;
  picker.replaceChildren(element("p", { class: "path quiet", text: picker.dataset.wordWait }));
  show("/");
}

/** Lists the disks of the chosen host and puts the picked one into a field. */
function disks(picker) {
  const host = document.getElementById(picker.dataset.host);
  const field = document.getElementById(picker.dataset.into);
  const needed = Number(picker.dataset.needed);

  async function show() {
    const wanted = host.value;
    picker.hidden = false;
    picker.replaceChildren(element("p", { class: "path quiet", text: picker.dataset.wordWait }));
    const list = element("ul");
    try {
      const reply = await ask(picker.dataset.disks.replace("{id}", encodeURIComponent(wanted)));
      if (host.value !== wanted) return;
      for (const disk of reply.items) {
        const radio = element("input", { type: "radio", name: "picked_disk", value: disk.path });
        radio.checked = field.value === disk.path;
        radio.disabled = disk.is_read_only || disk.size_bytes < needed;
        radio.addEventListener("change", () => (field.value = disk.path));
        const about = [disk.kind, disk.model, disk.file_system, disk.mount_points.join(", ")].filter(Boolean).join(" · ");
        const room = disk.size_bytes < needed ? `${size(disk.size_bytes)} – ${picker.dataset.wordSmall}` : size(disk.size_bytes);
        list.append(element("li", {}, element("label", {}, radio, element("span", { class: "mono", text: disk.path }),
          element("span", { class: "quiet small", text: about })), element("span", { class: "number small", text: room })));
      }
    } catch (error) {
      list.append(element("li", { class: "quiet", text: `${error.message} ${picker.dataset.wordNone}` }));
    }
    picker.replaceChildren(list);
  }

  host.addEventListener("change", show);
  show();
}

for (const picker of document.querySelectorAll("[data-browse]")) browser(picker);
for (const picker of document.querySelectorAll("[data-disks]")) disks(picker);

for (const field of document.querySelectorAll("[data-own-zone]")) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone) field.value = zone;
}

const focus = document.querySelector("[data-focus]");
if (focus) focus.focus({ preventScroll: false });

enhance(document);
setInterval(() => showTimes(document), 20000);
listen();
