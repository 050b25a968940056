"use strict";

// On a WSGI server an open feed holds one of the server's threads. So a page that nobody looks at closes its feed, and
// one that finds all places taken asks for news every few seconds instead, and for a place once in a while.
const POLL = 5000;
const POLLS = 6;

const list = document.querySelector("#notifications");
const empty = document.querySelector("#empty");
const template = document.querySelector("#notification");
const connection = document.querySelector("#connection");
let after = Number(list.dataset.after);
let source = null;
let timer = 0;

function say(state, text) {
  connection.dataset.state = state;
  connection.textContent = text;
}

function show(notification) {
  if (notification.id <= after) return;
  after = notification.id;
  const item = template.content.firstElementChild.cloneNode(true);
  item.dataset.state = notification.state;
  item.classList.add("new");
  item.querySelector(".text").textContent = notification.text;
  item.querySelector(".answer").textContent = notification.answer;
  const time = item.querySelector("time");
  time.dateTime = notification.at;
  list.prepend(item);
  while (list.children.length > Number(list.dataset.shown)) list.lastElementChild.remove();
  empty.hidden = true;
  showTimes();
  const site = document.querySelector(`#site-${notification.site}`);
  if (site) {
    site.dataset.state = notification.state;
    site.querySelector(".state").textContent = notification.state;
    site.querySelector(".answer").textContent = notification.answer;
  }
}

function showTimes() {
  for (const time of document.querySelectorAll("time")) {
    time.textContent = new Date(time.dateTime).toLocaleTimeString([], { hour12: false });
  }
}

function stop() {
  source?.close();
  source = null;
  clearTimeout(timer);
}

function follow() {
  stop();
  source = new EventSource(`${list.dataset.feed}?after=${after}`);
  source.onopen = () => say("live", "live");
  source.addEventListener("notification", (event) => show(JSON.parse(event.data)));
  source.onerror = () => {
    // Where the connection is lost the browser connects again by itself, and says what it has seen last.
    if (source.readyState === EventSource.CLOSED) {
      stop();
      poll(1);
    } else {
      say("lost", "connecting …");
    }
  };
}

async function poll(times) {
  try {
    const answer = await fetch(`${list.dataset.news}?after=${after}`);
    for (const notification of (await answer.json()).notifications) show(notification);
    say("polling", `every ${POLL / 1000} seconds`);
  } catch {
    say("lost", "connecting …");
  }
  if (!document.hidden) timer = setTimeout(times < POLLS ? () => poll(times + 1) : follow, POLL);
}

document.addEventListener("visibilitychange", () => (document.hidden ? stop() : follow()));
document.querySelector("#ask").addEventListener("submit", (event) => {
  event.preventDefault();
  fetch(event.target.action, { method: "POST", body: new FormData(event.target) });
});
showTimes();
if (!document.hidden) follow();
