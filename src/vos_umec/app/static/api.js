// Requests to the server of this app, and what it tells of its own accord.

export const tab = crypto.randomUUID();

export async function call(method, path, body) {
  const options = { method };
  if (body instanceof Uint8Array) options.body = body;
  else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { "Content-Type": "application/json" };
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The app does not answer. Is `vos-umec app` still running in its terminal?");
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  let reason = text;
  try { reason = JSON.parse(text).error; } catch { /* a plain text */ }
  throw new Error(reason || `the app answered ${answer.status}`);
}

export async function ask(method, path, body) {
  return (await call(method, path, body)).json();
}

// `tell(message)` for each event; `again()` when the connection is there again after it was lost.
export function listen(path, tell, again) {
  let lost = false;
  const source = new EventSource(path);
  source.onmessage = (event) => tell(JSON.parse(event.data));
  source.onopen = () => { if (lost) again(); lost = false; };
  source.onerror = () => { lost = true; };
}

export function upload(files, name, progress) {
  const form = new FormData();
  for (const file of files) form.append("file", file, file.name);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch tells nothing about how far it is
    request.open("POST", `/api/uploads?name=${encodeURIComponent(name)}`);
    request.upload.onprogress = (event) => progress(event.loaded / event.total);
    request.onerror = () => reject(new Error("the upload was broken off; open the video by its path"));
    request.onload = () => {
      let content = {};
      try { content = JSON.parse(request.responseText); } catch { content = { error: request.responseText }; }
      if (request.status === 200) resolve(content);
      else reject(new Error(content.error || `the app answered ${request.status}`));
    };
    request.send(form);
  });
}
