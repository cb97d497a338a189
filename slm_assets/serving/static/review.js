"use strict";
// What users wrote is only ever set as text. Marks that steer direction or the display are written out.
const byId = (id) => document.getElementById(id);
const domain = decodeURIComponent(location.pathname.split("/")[2] || "");
const KEYS = { o: "oracle", s: "served", c: "correction" };
const STEERING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
const visible = (text) =>
  text.replace(STEERING, (mark) => "\\u" + mark.charCodeAt(0).toString(16).padStart(4, "0"));
const pretty = (value) => visible(JSON.stringify(value, null, 2));
let items = [];
let busy = false;

function say(text, wrong) {
  byId("message").textContent = visible(text || "");
  byId("message").className = wrong ? "wrong" : "";
}

async function ask(path, body) {
  const how = { method: body ? "POST" : "GET", credentials: "same-origin", redirect: "error" };
  if (body) Object.assign(how, { headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  const answer = await fetch(path, how);
  const value = await answer.json();
  if (answer.ok) return value;
  const error = new Error([value.error.message, value.error.cure].filter(Boolean).join(": "));
  error.status = answer.status;
  throw error;
}

async function load() {
  try {
    const found = await ask("/v1/review/" + encodeURIComponent(domain));
    items = found.items;
    byId("counts").textContent = Object.entries(found.counts).map(([state, n]) => n + " " + state).join(", ");
  } catch (error) {
    items = [];
    say(error.message, true);
  }
  show();
}

function show() {
  const item = items[0];
  byId("item").hidden = !item;
  byId("choices").replaceChildren();
  if (!item) {
    if (!byId("message").textContent) say("Nothing to decide.");
    return;
  }
  byId("role").textContent = item.role;
  byId("why").textContent = item.why;
  byId("turn").textContent = visible(item.turn);
  byId("input").textContent = pretty(item.input);
  for (const [key, name] of Object.entries(KEYS)) {
    if (!(name in item.candidates)) continue;
    const button = document.createElement("button");
    const hint = document.createElement("kbd");
    const output = document.createElement("code");
    hint.textContent = key;
    output.textContent = visible(JSON.stringify(item.candidates[name]));
    button.type = "button";
    button.id = "choice-" + name;
    button.append(hint, " " + name + " ", output);
    button.addEventListener("click", () => change("decide", item.candidates[name]));
    const line = document.createElement("li");
    line.append(button);
    byId("choices").append(line);
  }
  const first = Object.values(item.candidates)[0];
  byId("label").value = first === undefined ? "" : JSON.stringify(first, null, 2);
}

async function change(action, label) {
  const item = items[0];
  const by = byId("by").value.trim();
  if (!item || busy) return;
  if (!by) {
    say("Say who decides.", true);
    byId("by").focus();
    return;
  }
  busy = true;
  const body = { action, by, revision: item.revision };
  if (action === "decide") body.label = label;
  try {
    await ask("/v1/review/" + encodeURIComponent(domain) + "/" + item.item, body);
    say(action === "decide" ? "Decided: " + JSON.stringify(label) : "Skipped.");
    document.activeElement.blur();
    await load();
  } catch (error) {
    say(error.message, true);
    if (error.status === 409) await load();
  } finally {
    busy = false;
  }
}

function save() {
  let label;
  try {
    label = JSON.parse(byId("label").value);
  } catch (error) {
    say("The label is not JSON: " + error.message, true);
    return;
  }
  change("decide", label);
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.activeElement.blur();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) return save();
  const typing = /^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName);
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat || !items[0]) return;
  const name = KEYS[event.key];
  if (name && name in items[0].candidates) change("decide", items[0].candidates[name]);
  else if (event.key === "n") change("skip");
  else if (event.key === "r") load();
  else if (event.key === "e") byId("label").focus();
  else return;
  event.preventDefault();
});
byId("save").addEventListener("click", save);
byId("skip").addEventListener("click", () => change("skip"));
byId("by").addEventListener("change", () => localStorage.setItem("slm-by", byId("by").value));
byId("by").value = localStorage.getItem("slm-by") || "";
byId("domain").textContent = visible(domain);
document.title = "Review " + visible(domain);
load();
