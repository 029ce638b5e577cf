"use strict";

const INTERVAL = 500; // milliseconds
const list = document.getElementById("registrations");
const state = document.getElementById("status");
const pause = document.getElementById("pause");

let etag = list.dataset.etag;
let isPaused = false;

function say(text) {
  // Said again, a screen reader would read it again.
  if (state.textContent !== text) state.textContent = text;
}

function sayWhatIsSeen() {
  const calls = Number(list.dataset.calls);
  document.getElementById("empty").hidden = calls > 0;
  document.getElementById("more").hidden = Number(list.dataset.number) === list.childElementCount;
  say(isPaused ? "Paused" : `Watching, ${calls === 1 ? "1 call" : `${calls} calls`} so far`);
}

// What has not changed stays where it is, and in what has, everything that was open or had the focus.
function show(fresh) {
  const isSame = (item, other) => other !== null && other.dataset.version === item.dataset.version;
  const focused = document.activeElement.closest("#registrations details");
  const open = [...list.querySelectorAll("details[open]")].map((details) => details.id);

  for (const item of [...list.children]) {
    if (!isSame(item, fresh.querySelector(`#${item.id}`))) item.remove();
  }
  let next = list.firstElementChild;
  for (const item of [...fresh.children]) {
    if (next !== null && next.id === item.id) {
      next = next.nextElementSibling;
    } else {
      item.classList.add("fresh");
      list.insertBefore(item, next);
    }
  }
  for (const id of open) {
    const details = document.getElementById(id);
    if (details) details.open = true;
  }
  if (focused !== null && !focused.isConnected) {
    document.querySelector(`#${focused.id} summary`)?.focus({ preventScroll: true });
  }
  Object.assign(list.dataset, fresh.dataset);
  etag = fresh.dataset.etag;
}

async function look() {
  try {
    const response = await fetch("activity/registrations", { headers: { "If-None-Match": etag } });
    if (response.status === 200) {
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      show(page.getElementById("registrations"));
    } else if (response.status !== 304) {
      throw new Error(response.statusText);
    }
    sayWhatIsSeen();
  } catch {
    say("The marketplace does not answer; trying again");
  }
}

async function watch() {
  if (!isPaused && !document.hidden) await look();
  setTimeout(watch, INTERVAL);
}

pause.hidden = false;
pause.addEventListener("click", () => {
  isPaused = !isPaused;
  pause.setAttribute("aria-pressed", String(isPaused));
  sayWhatIsSeen();
});
watch();
