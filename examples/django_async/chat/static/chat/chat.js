"use strict";

// The page of a room. What happens comes over a WebSocket; where there can be none, as server-sent events, and what the
// page says goes by POST. The same JSON comes either way, and begins with a "hello".

const HELLO = 10_000; // how long a connection may take to greet, in milliseconds
const LONGEST_WAIT = 15_000; // between two tries
const FULL = 10_000; // where all places are taken
const SHOWN = 8; // notices

const $ = (selector, root = document) => root.querySelector(selector);
const room = $("main").dataset;
const log = $("#log");
const scroller = $("#scroller");
const form = $("#composer");
const text = form.elements.text;
const title = document.title;

// The number of the latest message that the page has. Numbers have no gaps, and whoever connects says what it has.
let after = Number(log.lastElementChild?.dataset.number ?? 0);
let unseen = 0; // messages that have come while nobody looked

// ---------------------------------------------------------------------------------------------------- the connection

const WAYS = [viaWebSocket, viaEvents];
let best = 0; // which of them has worked last
let way = 0;
let tried = 0; // ways that have failed in this round
let rounds = 0; // rounds that have failed
let link = null;
let greeted = false;
let page = ""; // what the server calls this page
let heartbeat = HELLO;
let silence = 0;
let countdown = 0;

function viaWebSocket() {
  const socket = new WebSocket(address(location.protocol.replace("http", "ws")));
  socket.onmessage = (event) => receive(JSON.parse(event.data));
  socket.onclose = lose;
  return {
    name: "WebSocket",
    send: (type, fields) => socket.send(JSON.stringify({ type, ...fields })),
    close() {
      socket.onmessage = socket.onclose = null;
      socket.close();
    },
  };
}

function viaEvents() {
  const source = new EventSource(address(location.protocol));
  let sending = Promise.resolve();
  source.onmessage = (event) => receive(JSON.parse(event.data));
  source.onerror = lose;
  return {
    name: "events",
    // One after the other, so that they arrive in order.
    send(type, fields) {
      sending = sending.then(() => post(type, fields));
    },
    close() {
      source.onmessage = source.onerror = null;
      source.close();
    },
  };
}

function address(scheme) {
  return `${scheme}//${location.host}${room.base}live/?after=${after}`;
}

async function post(type, fields) {
  const mine = link;
  try {
    const answer = await fetch(`${room.base}${type}/`, {
      method: "POST",
      headers: { Accept: "application/json", "X-CSRFToken": form.elements.csrfmiddlewaretoken.value },
      body: new URLSearchParams(fields),
    });
    if (answer.status === 403) receive({ type: "stranger" });
    else if (!answer.ok) throw new Error(answer.statusText);
    else for (const event of (await answer.json()).events) receive(event);
  } catch {
    // What has not been sent is sent again over the next connection.
    if (link === mine) lose();
  }
}

function begin() {
  clearInterval(countdown);
  way = best;
  tried = 0;
  connect();
}

function connect() {
  say("lost", "connecting …");
  greeted = false;
  link = WAYS[way]();
  await_sign(HELLO);
}

// A connection may be dead without a word: a server that is silent for long is gone.
function await_sign(time) {
  clearTimeout(silence);
  silence = setTimeout(lose, time);
}

function lose() {
  drop();
  tried += 1;
  if (!greeted && tried < WAYS.length) {
    way = (way + 1) % WAYS.length;
    connect();
    return;
  }
  // Not all pages at once, and more and more seldom.
  const wait = Math.min(LONGEST_WAIT, 1000 * 2 ** rounds) * (0.5 + Math.random() / 2);
  rounds += 1;
  retry(wait, "reconnecting");
}

function drop() {
  link?.close();
  link = null;
  clearTimeout(silence);
  clearInterval(countdown);
}

function retry(wait, what) {
  const at = Date.now() + wait;
  const show = () => {
    const left = Math.ceil((at - Date.now()) / 1000);
    if (left > 0) say("lost", what, ` in ${left} s`);
    else begin();
  };
  show();
  countdown = setInterval(show, 250);
}

// The rest is not read out, since it changes each second.
function say(state, words, rest = "") {
  const connection = $("#connection");
  connection.dataset.state = state;
  connection.dataset.way = link?.name ?? "";
  const shown = $(".text", connection);
  if (shown.textContent !== words) shown.textContent = words;
  $(".rest", connection).textContent = rest;
  $("#retry").hidden = state === "live" || Boolean(link);
}

function receive(event) {
  if (greeted) await_sign(3 * heartbeat + 5000);
  const handle = HANDLERS[event.type];
  if (handle) handle(event);
}

const HANDLERS = {
  hello(event) {
    greeted = true;
    best = way;
    rounds = 0;
    page = event.page;
    heartbeat = event.heartbeat * 1000;
    await_sign(3 * heartbeat + 5000);
    say("live", link.name === "WebSocket" ? "live" : "live, without WebSocket");
    showHere(event.here);
    showNumbers(event.last);
    if (event.last[room.room] < after) location.reload(); // the history has been taken away
    for (const [key, { words }] of outbox) link.send("say", { key, text: words });
  },
  message(event) {
    if (event.room === room.room) showMessage(event);
    else notice(`${nameOf(event.room)} · ${event.author}`, event.text, `../${event.room}/`);
    showNumbers({ [event.room]: event.number });
  },
  site({ notification }) {
    const item = notice(notification.text, notification.answer, "/");
    item.dataset.state = notification.state;
  },
  here: (event) => showHere(event.here),
  numbers: (event) => showNumbers(event.last),
  tick: () => link.send("here", { page }),
  refused: (event) => refuse(event.key, event.why),
  full() {
    drop();
    retry(FULL, "all places are taken; trying again");
  },
  stranger() {
    drop();
    location.reload(); // to the entrance
  },
};

// ------------------------------------------------------------------------------------------------------- the messages

function itemOf(message) {
  const item = $("#message").content.firstElementChild.cloneNode(true);
  item.dataset.visitor = message.visitor;
  $(".author", item).textContent = message.author;
  $(".text", item).textContent = message.text;
  $("time", item).dateTime = message.at;
  if (message.number) item.dataset.number = message.number;
  return item;
}

function showMessage(message) {
  if (message.number <= after) return;
  after = message.number;
  outbox.get(message.key)?.item.remove();
  outbox.delete(message.key);
  const item = itemOf(message);
  item.classList.add("new");
  const isAtEnd = atEnd();
  log.append(item);
  dress(item);
  $("#empty").hidden = true;
  if (isAtEnd || message.visitor === room.visitor) toEnd();
  else $("#latest").hidden = false;
  if (document.hidden) {
    unseen += 1;
    document.title = `(${unseen}) ${title}`;
  }
}

// What depends on the message before it, and on where its reader is.
function dress(item) {
  const before = item.previousElementSibling;
  const time = $("time", item);
  const at = new Date(time.dateTime);
  const day = at.toLocaleDateString([], { weekday: "long", day: "numeric", month: "long" });
  const sameDay = before?.dataset.day === day;
  item.dataset.day = day;
  item.classList.toggle("day", !sameDay);
  item.classList.toggle("mine", item.dataset.visitor === room.visitor);
  const soon = before && at - new Date($("time", before).dateTime) < 5 * 60_000;
  item.classList.toggle("same", Boolean(sameDay && soon && before.dataset.visitor === item.dataset.visitor));
  time.textContent = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  paint($(".face", item), item.dataset.visitor, $(".author", item).textContent);
}

function paint(face, visitor, name) {
  face.textContent = [...name][0].toUpperCase();
  face.style.setProperty("--hue", parseInt(visitor.slice(0, 6), 16) % 360);
}

const atEnd = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;

function toEnd() {
  scroller.scrollTop = scroller.scrollHeight;
  $("#latest").hidden = true;
}

async function showEarlier() {
  const first = log.firstElementChild;
  const answer = await fetch(`${room.base}history/?before=${first.dataset.number}`);
  const { messages } = await answer.json();
  const height = scroller.scrollHeight;
  first.before(...messages.map(itemOf));
  for (let item = log.firstElementChild; item !== first.nextElementSibling; item = item.nextElementSibling) dress(item);
  scroller.scrollTop += scroller.scrollHeight - height;
  offerEarlier();
}

function offerEarlier() {
  $("#earlier").hidden = Number(log.firstElementChild?.dataset.number ?? 1) <= 1;
}

// -------------------------------------------------------------------------------------------------- what one says here

// By key: what the server has not been seen to have. It is sent again over each new connection; the server keeps each
// key once.
const outbox = new Map();

function submit(event) {
  event.preventDefault();
  const words = text.value.trim();
  if (!words) return;
  const key = newKey();
  const item = itemOf({ visitor: room.visitor, author: "", text: words, at: "" });
  item.classList.add("mine", "same");
  $("time", item).textContent = "sending …";
  $("#outbox").append(item);
  outbox.set(key, { words, item });
  if (greeted && link) link.send("say", { key, text: words });
  text.value = "";
  fit();
  toEnd();
  text.focus();
}

// crypto.randomUUID() is there on secure pages only.
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function refuse(key, why) {
  const refused = outbox.get(key);
  if (!refused) return;
  outbox.delete(key);
  refused.item.classList.add("refused");
  $("time", refused.item).textContent = `not sent: ${why}`;
}

// The field grows with what is in it.
function fit() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight + 2}px`;
  const left = text.maxLength - text.value.length;
  $("#left").hidden = left > 100;
  $("#left").textContent = `${left} left`;
}

// ------------------------------------------------------------------------------------------------- what is beside it

function showHere(people) {
  $("#count").textContent = people.length;
  $("#here").replaceChildren(
    ...people.map(({ visitor, name }) => {
      const item = document.createElement("li");
      const face = document.createElement("span");
      face.className = "face";
      face.ariaHidden = "true";
      paint(face, visitor, name);
      item.append(face, visitor === room.visitor ? `${name} (you)` : name);
      return item;
    }),
  );
}

const linkTo = (slug) => $(`#rooms a[data-room="${CSS.escape(slug)}"]`);
const nameOf = (slug) => (linkTo(slug) ? $(".name", linkTo(slug)).textContent : slug);

// How far each room has been read is this browser's own.
function showNumbers(last) {
  for (const [slug, number] of Object.entries(last)) {
    const item = linkTo(slug);
    if (!item) continue;
    item.dataset.last = Math.max(number, Number(item.dataset.last));
    if (slug === room.room) localStorage.setItem(`read ${slug}`, after);
    const read = Number(localStorage.getItem(`read ${slug}`) ?? 0);
    const unread = slug === room.room ? 0 : Number(item.dataset.last) - read;
    const badge = $(".unread", item);
    badge.hidden = unread <= 0;
    badge.textContent = unread > 99 ? "99+" : unread;
    badge.ariaLabel = `${unread} unread`;
  }
}

function notice(from, words, href) {
  const item = $("#notice").content.firstElementChild.cloneNode(true);
  $(".from", item).textContent = from;
  $(".text", item).textContent = words;
  $("a", item).href = href;
  const list = $("#elsewhere");
  list.prepend(item);
  while (list.children.length > SHOWN) list.lastElementChild.remove();
  $("#quiet").hidden = true;
  return item;
}

// --------------------------------------------------------------------------------------------------------------- begin

form.addEventListener("submit", submit);
text.addEventListener("input", fit);
text.addEventListener("keydown", (event) => {
  // Not while an input method composes a character.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});
// Who reads the end goes on to read it: when there is more, and when the page has less room.
let follows = true;
scroller.addEventListener("scroll", () => {
  follows = atEnd();
  if (follows) $("#latest").hidden = true;
});
new ResizeObserver(() => follows && toEnd()).observe(scroller);
$("#latest").addEventListener("click", toEnd);
$("#earlier").addEventListener("click", showEarlier);
$("#retry").addEventListener("click", begin);
window.addEventListener("online", () => !link && begin());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unseen = 0;
  document.title = title;
  if (!link) begin();
});
for (const item of log.children) dress(item);
showNumbers(Object.fromEntries([...document.querySelectorAll("#rooms a")].map((a) => [a.dataset.room, Number(a.dataset.last)])));
offerEarlier();
toEnd();
begin();
if (matchMedia("(hover: hover)").matches) text.focus();
