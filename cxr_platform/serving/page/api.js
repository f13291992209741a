// The HTTP interface: keys, waiting while the server is busy, problem details (RFC 9457).

const MEGABYTE = 2 ** 20;
/** What one request may carry, less what the form around the files takes. */
export const LIMITS = { files: 32, bytes: 20 * MEGABYTE - 64 * 1024 };

const RETRIED = new Set([429, 503]);
const ATTEMPTS = 6;
const LONGEST_PAUSE_SECONDS = 60;

/** What the server, or the way to it, answered instead of a result. */
export class Problem extends Error {
  constructor({ title, detail = "", status = 0, reason = "", request_id = "" }) {
    super(title);
    Object.assign(this, { title, detail, status, reason, requestId: request_id });
  }

  /** Whether the same request may succeed later. */
  get passing() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

export const TOO_LARGE = {
  title: "The file has more than 20 MB.",
  detail: "It was not sent. Send a smaller one.",
  status: 413,
  reason: "too-large",
};

export class Api {
  #key = "";
  #asking = null;
  #askForKey;
  #onPause;

  /** `askForKey(refused)` promises a key; `onPause(seconds, problem)` is told before each new try. */
  constructor({ askForKey, onPause }) {
    this.#askForKey = askForKey;
    this.#onPause = onPause;
  }

  model() {
    return this.#request("v1/model", {});
  }

  async screen(file, signal) {
    if (file.size > LIMITS.bytes) throw new Problem(TOO_LARGE);
    return this.#request("v1/screen?explain=true", { method: "POST", body: form([file]), signal });
  }

  screenBatch(files, signal) {
    return this.#request("v1/screen/batch", { method: "POST", body: form(files), signal });
  }

  async #request(address, options) {
    let attempt = 1;
    for (;;) {
      const key = this.#key;
      const response = await send(address, options, key);
      if (response.ok) return response.json();
      const problem = await problemOf(response);
      if (response.status === 401) {
        if (key === this.#key) await unlessAborted(this.#obtainKey(key !== ""), options.signal);
      } else if (RETRIED.has(response.status) && attempt < ATTEMPTS) {
        const seconds = pauseOf(response.headers.get("Retry-After"));
        this.#onPause(seconds, problem);
        await unlessAborted(new Promise((resolve) => setTimeout(resolve, 1000 * seconds)), options.signal);
        attempt += 1;
      } else {
        throw problem;
      }
    }
  }

  /** Requests that need a key at the same time share one question. */
  #obtainKey(refused) {
    this.#asking ??= this.#askForKey(refused)
      .then((key) => (this.#key = key))
      .finally(() => (this.#asking = null));
    return this.#asking;
  }
}

/** Seconds that a Retry-After header asks for, which is a number or a date; 1 without one. */
function pauseOf(header) {
  const seconds = /^\d+$/.test(header ?? "") ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(Math.max(Math.ceil(seconds), 1), LONGEST_PAUSE_SECONDS) : 1;
}

async function send(address, options, key) {
  const headers = { Accept: "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
  try {
    return await fetch(address, { ...options, headers, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    const detail = "Check the connection, and that the file can still be read; then try again.";
    throw new Problem({ title: "The server does not answer.", detail });
  }
}

async function problemOf(response) {
  const details = await response.json().catch(() => null);
  const known = details?.title ? details : { title: `The server answered with status ${response.status}.` };
  return new Problem({ ...known, status: response.status });
}

function form(files) {
  const data = new FormData();
  for (const file of files) data.append("file", file, "image"); // the server needs no name, and gets none
  return data;
}

function unlessAborted(promise, signal) {
  if (!signal) return promise;
  const aborted = new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  return Promise.race([promise, aborted]);
}
