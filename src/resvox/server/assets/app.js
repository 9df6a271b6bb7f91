// The page of `resvox serve`: uploads with progress, jobs that are watched, results shown and downloaded.
"use strict";

const find = (id) => document.getElementById(id);
const WATCH_MS = 400;
const KINDS = [["labels", "Label map"], ["seg", "DICOM SEG"], ["report", "Report"], ["sidecar", "Names and volumes"]];
const names = new Map(); // job: the file's name, which stays in this page
const rows = new Map();

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function show(id, text) {
  find(id).textContent = text || "";
  find(id).hidden = !text;
}

async function ask(method, path, options = {}) {
  const answer = await fetch(path, { method, credentials: "same-origin", ...options });
  if (answer.status === 401) {
    find("login").hidden = false;
    find("new").hidden = true;
    find("jobs-section").hidden = true;
  }
  if (!answer.ok) {
    let detail = `the server answered ${answer.status}`;
    try { detail = (await answer.json()).detail || detail; } catch (error) { /* not JSON: the status is all there is */ }
    throw new Error(detail);
  }
  return answer.status === 204 ? null : answer.json();
}

async function start() {
  let state;
  try {
    state = await ask("GET", "/models");
  } catch (error) {
    if (find("login").hidden) show("problem", error.message);
    return;
  }
  find("login").hidden = true;
  find("new").hidden = false;
  find("version").textContent = ` ${state.version}`;
  find("model").replaceChildren(...state.models.map((model) => {
    const option = element("option", `${model.name} (${Object.keys(model.labels).join(", ")})`.slice(0, 90));
    option.value = model.name;
    return option;
  }));
  for (const id of ["series-row", "push-row"]) find(id).hidden = !state.has_dicomweb;
  const channels = new Map(state.models.map((model) => [model.name, model.channels]));
  const about = () => {
    const wanted = channels.get(find("model").value) || [];
    const files = wanted.length > 1 ? `${wanted.length} files, in this order: ${wanted.join(", ")}` : `one scan (${wanted.join("")})`;
    find("about").textContent = `This model takes ${files}. At most ${state.limits.max_upload_mb} MB.`;
  };
  find("model").onchange = about;
  about();
  const { jobs } = await ask("GET", "/jobs?limit=20");
  for (const job of jobs.reverse()) follow(job);
}

find("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  show("login-problem", "");
  try {
    await ask("POST", "/login", {
      headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token: find("token").value }),
    });
    find("token").value = "";
    await start();
  } catch (error) {
    show("login-problem", error.message);
  }
});

// ---------------------------------------------------------------------------------------------- choosing

function chosen() {
  const files = [...find("files").files];
  const total = files.reduce((sum, file) => sum + file.size, 0);
  const what = files.length === 1 ? files[0].name : `${files.length} files`;
  find("chosen").textContent = files.length ? `${what}, ${(total / 1e6).toFixed(1)} MB` : "Drop a scan here, or click to choose files";
  find("start").disabled = !files.length && !find("series").value.trim();
}

find("files").addEventListener("change", chosen);
find("series").addEventListener("input", chosen);
for (const kind of ["dragenter", "dragover"]) {
  find("drop").addEventListener(kind, (event) => { event.preventDefault(); find("drop").classList.add("over"); });
}
for (const kind of ["dragleave", "drop"]) {
  find("drop").addEventListener(kind, (event) => { event.preventDefault(); find("drop").classList.remove("over"); });
}
find("drop").addEventListener("drop", (event) => { find("files").files = event.dataTransfer.files; chosen(); });

// fetch() does not report the progress of an upload
function upload(form, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/jobs");
    request.upload.onprogress = (event) => { if (event.lengthComputable) onProgress(event.loaded / event.total); };
    request.onerror = () => reject(new Error("the server cannot be reached, or ended the upload"));
    request.onload = () => {
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch (error) { /* the status is all there is */ }
      if (request.status === 202) resolve(answer);
      else reject(new Error(answer.detail || `the server answered ${request.status}`));
    };
    request.send(form);
  });
}

find("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  show("problem", "");
  const files = [...find("files").files].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  const series = find("series").value.trim();
  const push = find("push").checked;
  find("start").disabled = true;
  try {
    let job;
    if (files.length) {
      const form = new FormData();
      form.append("model", find("model").value);
      form.append("format", find("format").value);
      form.append("report", "true");
      if (push) form.append("push", "true");
      for (const file of files) form.append("files", file, file.name);
      job = await upload(form, (part) => { find("chosen").textContent = `Uploading: ${Math.round(100 * part)} %`; });
      names.set(job.id, files.length === 1 ? files[0].name : `${files[0].name} and ${files.length - 1} more`);
    } else {
      const body = { model: find("model").value, series_uid: series, format: find("format").value, report: true, push };
      job = await ask("POST", "/jobs/fetch", { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
      names.set(job.id, series);
    }
    follow(job);
    find("form").reset();
  } catch (error) {
    show("problem", error.message);
  }
  chosen();
});

// ---------------------------------------------------------------------------------------------- jobs

function follow(job) {
  const row = element("li");
  row.id = `job-${job.id}`;
  rows.set(job.id, row);
  find("jobs").prepend(row);
  find("jobs-section").hidden = false;
  draw(job);
  if (!isOver(job)) watch(job.id);
}

const isOver = (job) => ["done", "failed", "cancelled"].includes(job.state);

async function watch(id) {
  for (let failures = 0; rows.has(id) && failures < 20;) {
    await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
    try {
      const job = await ask("GET", `/jobs/${id}`);
      failures = 0;
      if (!rows.has(id)) return;
      draw(job);
      if (isOver(job)) return;
    } catch (error) {
      failures += 1;
    }
  }
}

function words(job) {
  if (job.state === "queued") return job.waiting_before ? `waiting, ${job.waiting_before} before it` : "waiting";
  if (job.state === "running") {
    const at = job.progress;
    if (!at) return "starting";
    return at.total ? `${at.stage}, ${at.done} of ${at.total} windows` : at.stage;
  }
  if (job.state === "done") return `done in ${(job.finished - job.started).toFixed(1)} s`;
  return job.state;
}

function draw(job) {
  const row = rows.get(job.id);
  const head = element("div", undefined, "job-head");
  head.append(
    element("span", names.get(job.id) || `job ${job.id.slice(0, 8)}`, "job-name"),
    element("span", job.model, "job-state"), element("span", words(job), "job-state"),
  );
  row.replaceChildren(head);
  row.dataset.state = job.state;
  if (!isOver(job)) {
    const bar = element("progress");
    if (job.progress && job.progress.total) { bar.max = job.progress.total; bar.value = job.progress.done; }
    bar.setAttribute("aria-label", "Progress");
    row.append(bar);
  }
  if (job.reason) row.append(element("p", job.reason, "problem"));
  for (const note of job.notes) row.append(element("p", note, "volumes"));
  const volumes = Object.entries(job.volumes_ml).map(([name, ml]) => `${name} ${ml.toFixed(1)} mL`);
  if (volumes.length) row.append(element("p", volumes.join(", "), "volumes"));
  row.append(buttons(job));
}

function buttons(job) {
  const links = element("div", undefined, "links");
  if (job.files.view) {
    const look = element("button", "Look at the result");
    look.type = "button";
    look.onclick = () => look_at(job);
    links.append(look);
  }
  for (const [kind, text] of KINDS) {
    if (!job.files[kind]) continue;
    const link = element("a", text);
    link.href = job.files[kind].url;
    link.setAttribute("download", "");
    links.append(link);
  }
  const end = element("button", isOver(job) ? "Delete" : "Cancel");
  end.type = "button";
  end.onclick = () => finish(job);
  links.append(end);
  return links;
}

function look_at(job) {
  find("viewer-title").textContent = `Result of ${names.get(job.id) || job.id.slice(0, 8)}`;
  find("frame").src = job.files.view.url;
  find("frame").dataset.job = job.id;
  find("viewer").hidden = false;
  find("viewer").scrollIntoView({ behavior: "smooth" });
}

async function finish(job) {
  try {
    if (!isOver(job)) {
      draw(await ask("POST", `/jobs/${job.id}/cancel`));
      return;
    }
    await ask("DELETE", `/jobs/${job.id}`);
  } catch (error) {
    show("problem", error.message);
    return;
  }
  rows.get(job.id).remove();
  rows.delete(job.id);
  if (find("frame").dataset.job === job.id) close_viewer();
  find("jobs-section").hidden = rows.size === 0;
}

function close_viewer() {
  find("viewer").hidden = true;
  find("frame").src = "about:blank";
  find("frame").dataset.job = "";
}

find("close").addEventListener("click", close_viewer);
start();
