// Requests to the server: API key, retries while it is busy, problem details (RFC 9457).

const MEGABYTE = 2 ** 20;
/** Limits of one request; the form around the files takes some of the 20 MB. */
export const LIMITS = { files: 32, bytes: 20 * MEGABYTE - 64 * 1024 };

const RETRIED_STATUSES = new Set([429, 503]);
const ATTEMPTS = 6;
const MAX_PAUSE_SECONDS = 60;

/** An error of the server or of the connection. */
export class Problem extends Error {
  constructor({ title, detail = "", status = 0, reason = "", request_id = "" }) {
    super(title);
    Object.assign(this, { title, detail, status, reason, requestId: request_id });
  }

  /** True if the same request may succeed later. */
  get temporary() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

export const TOO_LARGE = {
  title: "The file is larger than 20 MB.",
  detail: "It was not sent. Choose a smaller file.",
  status: 413,
  reason: "too-large",
};

export class Api {
  #key = "";
  #keyRequest = null;
  #askForKey;
  #onPause;

  /** `askForKey(rejected)` returns a promise of a key; `onPause(seconds, problem)` is called before each retry. */
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
      const problem = await readProblem(response);
      if (response.status === 401) {
        if (key === this.#key) await unlessAborted(this.#obtainKey(key !== ""), options.signal);
      } else if (RETRIED_STATUSES.has(response.status) && attempt < ATTEMPTS) {
        const seconds = retryAfter(response.headers.get("Retry-After"));
        this.#onPause(seconds, problem);
        await unlessAborted(new Promise((resolve) => setTimeout(resolve, 1000 * seconds)), options.signal);
        attempt += 1;
      } else {
        throw problem;
      }
    }
  }

  /** Ask for a key once, even if several requests need it. */
  #obtainKey(rejected) {
    this.#keyRequest ??= this.#askForKey(rejected)
      .then((key) => (this.#key = key))
      .finally(() => (this.#keyRequest = null));
    return this.#keyRequest;
  }
}

/** Seconds of a Retry-After header, which is a number or a date; 1 without one. */
function retryAfter(header) {
  const seconds = /^\d+$/.test(header ?? "") ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(Math.max(Math.ceil(seconds), 1), MAX_PAUSE_SECONDS) : 1;
}

async function send(address, options, key) {
  const headers = { Accept: "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
  try {
    return await fetch(address, { ...options, headers, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    const detail = "Check the connection and that the file can still be read, then try again.";
    throw new Problem({ title: "The server cannot be reached.", detail });
  }
}

async function readProblem(response) {
  const details = await response.json().catch(() => null);
  const known = details?.title ? details : { title: `The server answered with status ${response.status}.` };
  return new Problem({ ...known, status: response.status });
}

function form(files) {
  const data = new FormData();
  for (const file of files) data.append("file", file, "image"); // the server does not get the file name
  return data;
}

function unlessAborted(promise, signal) {
  if (!signal) return promise;
  const aborted = new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  return Promise.race([promise, aborted]);
}
