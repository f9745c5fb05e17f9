// Verify a webhook request: Standard Webhooks, or Evox. Node 18+, standard library only.
// `headers` has lower-case names (as Node gives them), `body` is the raw Buffer as it came in.

import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const TOLERANCE = 5 * 60; // seconds that a clock may be off, or a copied request may be old

/** Whether one of the signatures in webhook-signature was made with this secret. */
export function verifyStandard(secret, headers, body, now = Date.now() / 1000) {
  const id = headers["webhook-id"] ?? "";
  const timestamp = headers["webhook-timestamp"] ?? "";
  if (!isRecent(timestamp, now)) return false;
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const expected =
    "v1," + createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64");
  const given = (headers["webhook-signature"] ?? "").split(" ");
  return given.some((signature) => isSame(expected, signature));
}

/** The same with Evox-Time and Evox-Signature; the key is the secret's text as it stands. */
export function verifyEvox(secret, headers, body, now = Date.now() / 1000) {
  const timestamp = headers["evox-time"] ?? "";
  if (!isRecent(timestamp, now)) return false;
  const expected = createHmac("sha256", secret).update(`${timestamp}.`).update(body).digest("hex");
  // While secrets rotate, evox-signature-old, -old-2 and so on are signed with those before it.
  const names = Object.keys(headers).filter((name) => name.startsWith("evox-signature"));
  return names.some((name) => isSame(expected, headers[name]));
}

function isRecent(timestamp, now) {
  return /^[0-9]{1,12}$/.test(timestamp) && Math.abs(now - Number(timestamp)) <= TOLERANCE;
}

function isSame(expected, given) {
  const [a, b] = [Buffer.from(expected), Buffer.from(given)];
  return a.length === b.length && timingSafeEqual(a, b);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  // verify.mjs SECRET "webhook-id: …" "webhook-timestamp: …" "webhook-signature: …" < body
  const [secret, ...lines] = process.argv.slice(2);
  const headers = Object.fromEntries(
    lines.map((line) => line.split(/: (.*)/s)).map(([name, value]) => [name.toLowerCase(), value]),
  );
  const now = process.env.NOW ? Number(process.env.NOW) : undefined;
  const verify = "webhook-signature" in headers ? verifyStandard : verifyEvox;
  const verified = verify(secret, headers, readFileSync(0), now);
  console.log(verified ? "verified" : "refused");
  process.exitCode = verified ? 0 : 1;
}
